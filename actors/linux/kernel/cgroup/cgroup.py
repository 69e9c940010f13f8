"""Cgroups and their css from mkdir to release. kernel/cgroup/cgroup.c @5.3.1, @6.12, @7.2; steps of KERNEL.md 3.

What is new in 6.12 is in KERNEL-today 3: a queue for each stage of a css's end, counts of dying csses, statistics that
are flushed before a css leaves (kernel/cgroup/rstat.c), and callbacks for tasks. In 7.2 a cgroup can be removed while
its last tasks still run their end: its css is killed when the last of them has switched out (KERNEL-7.2 N3).

A cgroup is pinned by its base reference (dropped at rmdir), by its children, and by the css of each controller. The
model has one controller, memory. A css (CgroupSubsysState) is pinned by its base reference, its children and
everything that the controller charges to it. `nr_dying_descendants` falls only when the last of these references is
dropped.

The file has the tree under css_set_lock, the structures, references, and then the life of a cgroup: mkdir, tasks,
rmdir, release.
"""

from __future__ import annotations

import enum
import itertools
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from actors.linux.include.kernfs import KernfsNode, kernfs_remove, root_of
from actors.linux.include.memcontrol import mem_cgroup_attach, mem_cgroup_exit, mem_cgroup_fork
from actors.linux.include.rstat import cgroup_rstat_flush, css_rstat_flush
from actors.linux.include.slab import kmalloc
from actors.linux.kernel.cgroup.rstat import (
    CgroupRstat,
    CssRstat,
    MemcgStats,
    cgroup_rstat_exit,
    css_rstat_exit,
    css_rstat_of,
    rstat_of,
)
from actors.linux.kernel.locking.lockdep import lockdep_assert_held
from actors.linux.kernel.locking.locks import MutexHeld, SpinLockHeld, SpinLockIrqHeld, down_write, up_write
from actors.linux.kernel.signal import sighand_of
from actors.linux.kernel.workqueue import RcuWork, Work, queue_rcu_work, queue_work
from actors.linux.lib.idr import Ida
from actors.linux.lib.percpu_refcount import (
    DEAD,
    PercpuRef,
    percpu_ref_exit,
    percpu_ref_get,
    percpu_ref_get_many,
    percpu_ref_kill,
    percpu_ref_kill_and_confirm,
    percpu_ref_put,
    percpu_ref_put_many,
    percpu_ref_tryget,
    percpu_ref_tryget_live,
)
from actors.machine.context import BUG_ON, WARN_ON, Context, deref
from actors.machine.gfp import GFP_KERNEL
from actors.machine.list_head import ListEntry, ListHead, use
from actors.system.actor import Actor, Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.fs.dcache import Dentry
    from actors.linux.init.machine import Machine
    from actors.linux.mm.memcontrol import Memcg


# -- the tree of cgroups and the cgroup of each task: state under css_set_lock (KERNEL.md 3) --------------------------


@attrs.define(eq=False)
class CgroupTree(Shared):
    """The descendant counts and the lists of children.

    Each operation is one css_set_lock section of the kernel, and one access; a reader without the lock cannot see its
    intermediate states. `nr_cgrps` counts the cgroups that are not freed, the root included. `css_idr` is the memory
    controller's. Its lock protects nothing else, so allocating or freeing an id is not a step of its own.

    In 7.2 it `counts_populated` csses, and a task stays in its cgroup until its last context switch. That switch is the
    one section with several steps, for others read the counts without the lock (KERNEL-7.2 N3.4); it holds
    machine.css_set_lock. The other sections of this class, where they may come in between, find nothing half done: the
    task is off the list already, and what it has yet to subtract from the counts is a number that nobody else changes.
    """

    counts_populated: bool = False
    nr_cgrps: int = attrs.field(default=1, init=False)
    css_idr: Ida = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.css_idr = Ida(self.actor, "css_idr", lowest=2)

    @property
    def label(self) -> str:
        return "css_set_lock"

    @operation(READ)
    def is_at_limit(self, parent: Cgroup) -> bool:
        """cgroup_check_hierarchy_limits(): dying descendants do not count."""
        levels = [parent, *parent.ancestors()]
        for level in levels:
            level.touch_part("descendants", READ)
        return any(
            level.max_descendants is not None and level.nr_descendants >= level.max_descendants for level in levels
        )

    @operation(UPDATE)
    def link(self, cgroup: Cgroup) -> None:
        """KERNEL.md 3.1.2: link a new cgroup; every ancestor counts it."""
        for ancestor in cgroup.ancestors():
            ancestor.touch_part("descendants", UPDATE)
            ancestor.nr_descendants += 1
        if cgroup.parent is not None:
            cgroup.parent.touch_part("population", UPDATE)
            cgroup.parent.children.list_add_tail(cgroup)
        self.nr_cgrps += 1

    @operation(READ, part="nr_cgrps")
    def read_nr_cgrps(self) -> int:
        """atomic_read(&root->nr_cgrps)."""
        return self.nr_cgrps

    @operation(READ, lifecycle=True)
    def read_memcg(self, task: Context) -> Memcg | None:
        """task_css(): the memcg of *task*, None for the root; a later step may change it."""
        return task.memcg

    @operation(UPDATE, lifecycle=True)
    def move_task(self, task: Context, cgroup: Cgroup) -> None:
        """css_set_move_task(). A task that is exiting goes to the root only, where nobody counts it.

        In 7.2 it goes nowhere, and no task goes into a cgroup that is removed. There the csses that become populated or
        empty are counted in the same step: neither cgroup is being removed, so nobody looks at the counts.
        """
        if task.is_exiting and (cgroup.parent is not None or self.counts_populated):
            return
        if self.counts_populated and cgroup.is_dead:
            return
        if task.memcg is not None:
            old = task.memcg.css.cgroup
            if self._take_off(old) and self.counts_populated:
                old.css.populate_all(-1)
        task.memcg = None
        if cgroup.parent is not None:
            task.memcg = cgroup.css.memcg
            cgroup.touch_part("population", UPDATE)
            cgroup.tasks += 1
            if self.counts_populated and cgroup.tasks == 1:
                cgroup.css.populate_all(1)

    @staticmethod
    def _take_off(cgroup: Cgroup) -> bool:
        """Take a task off the list of its css_set; True if the list is empty now."""
        cgroup.touch_part("population", UPDATE)
        cgroup.tasks -= 1
        cgroup.reconsider()
        return not cgroup.tasks

    @operation(UPDATE, lifecycle=True)
    def drop_live(self, task: Context) -> None:
        """atomic_dec(&signal->live): the task, which is exiting and so stays where it is, hides from the iterator."""
        cgroup = deref(task.memcg, "the root's tasks are not counted").css.cgroup
        cgroup.touch_part("population", UPDATE)
        cgroup.hidden += 1

    @operation(READ, lifecycle=True)
    def has_visible_task(self, cgroup: Cgroup) -> bool:
        """KERNEL-7.2 N3.1.1: css_task_iter_next() finds a task whose process is not past exit_signals()."""
        cgroup.touch_part("population", READ)
        return cgroup.tasks > cgroup.hidden

    @operation(READ, lifecycle=True)
    def has_online_child(self, cgroup: Cgroup) -> bool:
        """css_has_online_children(), under cgroup_mutex."""
        cgroup.touch_part("population", READ)
        return any(not child.is_dead for child in cgroup.children.walk())

    @operation(UPDATE, lifecycle=True)
    def leave(self, task: Context) -> Css | None:
        """KERNEL-7.2 N3.4: an exited task leaves its css_set; return the css if the list is empty now."""
        cgroup = deref(task.memcg, "the root's tasks are not counted").css.cgroup
        task.memcg = None
        cgroup.hidden -= 1
        return cgroup.css if self._take_off(cgroup) else None

    @operation(UPDATE, lifecycle=True)
    def mark_dying(self, cgroup: Cgroup) -> None:
        """KERNEL.md 3.2.3: count the cgroup as a dying descendant of every ancestor."""
        cgroup.touch(UPDATE)
        cgroup.is_dead = True
        for ancestor in cgroup.ancestors():
            ancestor.touch_part("descendants", UPDATE)
            ancestor.nr_descendants -= 1
            ancestor.nr_dying_descendants += 1
        if cgroup.parent is not None:
            cgroup.parent.touch_part("population", UPDATE)
            cgroup.parent.reconsider()

    @operation(UPDATE)
    def forget(self, cgroup: Cgroup) -> None:
        """KERNEL.md 3.4.4: unlink a cgroup without references; its ancestors no longer count it."""
        for ancestor in cgroup.ancestors():
            ancestor.touch_part("descendants", UPDATE)
            ancestor.nr_dying_descendants -= 1
        if cgroup.parent is not None:
            cgroup.parent.touch_part("population", UPDATE)
            cgroup.parent.children.list_del(cgroup)


# -- the children of a css, in the order of their cgroups -------------------------------------------------------------
# css_next_descendant_pre() returns the memcg after the present one, so a walk calls it once for each memcg. C follows a
# pointer. Here the call is a search; it must not start at the first child each time, or the walk takes quadratic time.


class CssChildren(ListHead["Css"]):
    """A list of css, oldest first: cgroup_mutex keeps the order in which their cgroups were made."""

    _in_order: tuple[Css, ...] | None = None

    def __setitem__(self, css: Css, value: None) -> None:
        super().__setitem__(css, value)
        self._in_order = None

    def __delitem__(self, css: Css) -> None:
        super().__delitem__(css)
        self._in_order = None

    def first_memcg_after(self, serial_nr: int) -> Memcg | None:
        """The memcg of the oldest child whose cgroup has a higher serial number."""
        if self._in_order is None:
            self._in_order = tuple(self)
        first = bisect_right(self._in_order, serial_nr, key=lambda css: css.cgroup.serial_nr)
        for css in itertools.islice(self._in_order, first, None):
            if self.freed:
                use(css)
            if css.memcg is not None:
                return css.memcg
        return None


# -- structures -------------------------------------------------------------------------------------------------------


class CssFlags(enum.Flag):
    """The CSS_ flags."""

    ONLINE = enum.auto()
    DYING = enum.auto()
    RELEASED = enum.auto()


@attrs.define(eq=False)
class Css(ListEntry):
    """struct cgroup_subsys_state. `memcg` is None for a cgroup's self css; `refcnt` is None for the root (CSS_NO_REF).

    `online_cnt` counts the css itself and its online children, so it goes offline after all of them (3.2.4). `id` is
    the controller's: 1 for the root; it is reused after the css is freed. `files` is the directory that contains its
    files. From 6.12 on, `nr_descendants` counts the live csses below this one, and `stats` are the memcg's counters.

    In 7.2 `rstat` is its part of the CPUs' trees of changed statistics. A css is populated as long as its css_set has
    tasks (`nr_populated_csets`; the model has one css_set for each cgroup) or children are populated. The counts are
    written under css_set_lock and read without. The memory css alone has them, and not the root's; for a cgroup's self
    css, `tasks` of the cgroups say the same. `kill_finish_work` kills the css after its last task.
    """

    name: str
    cgroup: Cgroup
    parent: Css | None
    memcg: Memcg | None = None
    refcnt: PercpuRef | None = None
    flags: CssFlags = attrs.field(factory=lambda: CssFlags(0))
    online_cnt: int = 0
    id: int = 0
    nr_descendants: int = attrs.field(default=0, init=False)
    stats: MemcgStats | None = attrs.field(default=None, init=False)
    rstat: CssRstat | None = attrs.field(default=None, init=False)
    nr_populated_csets: int = attrs.field(default=0, init=False)
    nr_populated_children: int = attrs.field(default=0, init=False)
    kill_finish_work: Work | None = attrs.field(default=None, init=False)
    children: CssChildren = attrs.field(init=False)
    destroy_work: Work = attrs.field(init=False)
    destroy_rwork: RcuWork = attrs.field(init=False)
    files: KernfsNode = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.children = CssChildren(self, "children")
        self.files = KernfsNode(self.actor, f"with the files of {self.name}", "kn->active#cgroup")

    @property
    def label(self) -> str:
        return self.name

    def prepare(self, machine: Machine) -> None:
        """Initialise the reference count and the works; the root css has neither."""
        self.refcnt = PercpuRef.init(self.actor, self, css_release, len(machine.cpus))
        self.destroy_work = Work(self.actor, self, name="destroy_work")
        self.destroy_rwork = RcuWork(Work(self.actor, self), machine.cgroup_free_wq)

    @property
    def is_online(self) -> bool:
        return CssFlags.ONLINE in self.flags

    @operation(READ, part="flags")
    def read_flags(self) -> CssFlags:
        return self.flags

    @operation(UPDATE, part="flags", lifecycle=True)
    def set_flags(self, flags: CssFlags) -> None:
        self.flags |= flags

    @operation(UPDATE, part="flags", lifecycle=True)
    def clear_flags(self, flags: CssFlags) -> None:
        self.flags &= ~flags

    @operation(UPDATE, part="children")
    def link_child(self, child: Css) -> None:
        """init_and_link_css() and online_css(): descendant walks find *child* from now on; cgroup_mutex is held."""
        self.children.list_add_tail(child)

    @operation(UPDATE, part="children")
    def unlink_child(self, child: Css) -> None:
        """list_del_rcu(): walks that start from now on do not find *child*; cgroup_mutex is held."""
        self.children.list_del(child)

    @operation(UPDATE, part="online_cnt", lifecycle=True)
    def add_online_cnt(self, nr: int) -> int:
        self.online_cnt += nr
        return self.online_cnt

    @property
    def is_populated(self) -> bool:
        return bool(self.nr_populated_csets or self.nr_populated_children)

    @operation(READ, part="populated", lifecycle=True)
    def read_populated(self) -> bool:
        """css_is_populated(), without css_set_lock."""
        return self.is_populated

    @operation(UPDATE, part="populated", lifecycle=True)
    def populate(self, nr: int, *, by_child: bool) -> bool:
        """Add to one of the two counts; True if the css becomes populated or empty. css_set_lock is held."""
        return self._populate(nr, by_child=by_child)

    def populate_all(self, nr: int) -> None:
        """css_update_populated() of a css that is not removed, within a step that has css_set_lock."""
        level, by_child = self, False
        while level.parent is not None:
            level.touch_part("populated", UPDATE)
            if not level._populate(nr, by_child=by_child):
                break
            level, by_child = level.parent, True

    def _populate(self, nr: int, *, by_child: bool) -> bool:
        was = self.is_populated
        if by_child:
            self.nr_populated_children += nr
        else:
            self.nr_populated_csets += nr
        return was is not self.is_populated

    @operation(READ, part="nr_descendants")
    def read_nr_descendants(self) -> int:
        """cgroup_stat_show() reads it without cgroup_mutex."""
        return self.nr_descendants

    @operation(UPDATE, part="nr_descendants")
    def count_live(self) -> None:
        """KERNEL-today 3.1: every ancestor counts this css, which is online. cgroup_mutex is held."""
        for ancestor in self.ancestors():
            ancestor.touch_part("nr_descendants", UPDATE)
            ancestor.nr_descendants += 1

    @operation(UPDATE, part="nr_descendants", lifecycle=True)
    def count_dying(self) -> None:
        """KERNEL-today 3.2.6: the ancestors count it no more; their cgroups and its own count a dying one."""
        self.cgroup.add_dying_css(1)
        for ancestor in self.ancestors():
            ancestor.touch_part("nr_descendants", UPDATE)
            ancestor.nr_descendants -= 1
            ancestor.cgroup.add_dying_css(1)

    @operation(READ, part="nr_descendants", lifecycle=True)
    def count_released(self) -> int:
        """KERNEL-today 3.4: its cgroup and those above count it no more; return how many csses it has below, 0."""
        self.cgroup.add_dying_css(-1)
        for ancestor in self.cgroup.ancestors():
            ancestor.add_dying_css(-1)
        return self.nr_descendants

    def ancestors(self) -> list[Css]:
        """All csses above this one, nearest first."""
        above = []
        level = self.parent
        while level is not None:
            above.append(level)
            level = level.parent
        return above

    def parts(self) -> tuple[Shared | None, ...]:
        """The struct with its reference count and works."""
        own = (self, self.refcnt, self.destroy_work, self.destroy_rwork.work)
        return own if self.kill_finish_work is None else (*own, self.kill_finish_work)


@attrs.define(eq=False)
class Cgroup(ListEntry):
    """struct cgroup. `tasks` is the number of live tasks in it; the root's tasks are not counted.

    From 6.12 on, `nr_dying_subsys` counts the dying memory csses of its subtree, its own included. In 6.12 `rstat` is
    its part of the CPUs' trees of changed statistics. In 7.2 `tasks` counts a task until its last context switch;
    `hidden` are those of them that rmdir does not see any more. `is_frozen` (CGRP_FREEZE) is for a scenario to set.
    """

    name: str
    serial_nr: int
    parent: Cgroup | None
    self_css: Css = attrs.field(init=False)
    css: Css = attrs.field(init=False)
    children: ListHead[Cgroup] = attrs.field(init=False)
    tasks: int = attrs.field(default=0, init=False)
    hidden: int = attrs.field(default=0, init=False)
    nr_descendants: int = attrs.field(default=0, init=False)
    nr_dying_descendants: int = attrs.field(default=0, init=False)
    nr_dying_subsys: int = attrs.field(default=0, init=False)
    rstat: CgroupRstat | None = attrs.field(default=None, init=False)
    max_descendants: int | None = None
    is_dead: bool = attrs.field(default=False, init=False)
    is_frozen: bool = attrs.field(default=False, init=False)
    has_css: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.children = ListHead(self, "population")

    @property
    def label(self) -> str:
        return f"cgroup {self.name}"

    def is_empty(self) -> bool:
        """No live task and no online child; until then rmdir fails with EBUSY."""
        return not self.tasks and all(child.is_dead for child in self.children.walk())

    @operation(READ, part="descendants")
    def read_nr_descendants(self) -> int:
        """cgroup_stat_show() reads it without a lock."""
        return self.nr_descendants

    @operation(READ, part="descendants")
    def read_nr_dying_descendants(self) -> int:
        return self.nr_dying_descendants

    @operation(READ, part="nr_dying_subsys")
    def read_nr_dying_subsys(self) -> int:
        return self.nr_dying_subsys

    def add_dying_css(self, nr: int) -> None:
        """nr_dying_subsys[memory] += nr, within a step that holds cgroup_mutex."""
        self.touch_part("nr_dying_subsys", UPDATE)
        self.nr_dying_subsys += nr

    @operation(READ, part="population")
    def read_populated(self) -> bool:
        return not self.is_empty()

    @operation(READ, when=is_empty, sleeps=True, part="population")
    def wait_until_empty(self) -> None:
        """poll(cgroup.events): sleep until the cgroup is empty."""

    def descendants(self) -> list[Cgroup]:
        """All cgroups below this one that are still linked, dying ones included."""
        below = list(self.children)
        for cgroup in below:
            below.extend(cgroup.children)
        return below

    def ancestors(self) -> list[Cgroup]:
        """All cgroups above this one, nearest first."""
        above = []
        level = self.parent
        while level is not None:
            above.append(level)
            level = level.parent
        return above


@attrs.frozen
class CgroupSubsys:
    """struct cgroup_subsys: the memory controller's callbacks for each stage of a css.

    From 6.12 on, css_alloc may return None and css_online False: -ENOMEM.
    """

    css_alloc: Callable[[Context, Css, Css], Awaitable[Memcg | None]]
    css_online: Callable[[Context, Memcg], Awaitable[bool]]
    css_offline: Callable[[Context, Memcg], Awaitable[None]]
    css_released: Callable[[Context, Memcg], Awaitable[None]]
    css_free: Callable[[Context, Memcg], Awaitable[None]]


# -- references; the root's are not counted ---------------------------------------------------------------------------


@kernel_fn("css_get_many", "include/linux/cgroup.h")
async def css_get_many(ctx: Context, css: Css, nr: int) -> None:
    if css.refcnt is not None:
        await percpu_ref_get_many(ctx, css.refcnt, nr)


@kernel_fn("css_get", "include/linux/cgroup.h")
async def css_get(ctx: Context, css: Css) -> None:
    if css.refcnt is not None:
        await percpu_ref_get(ctx, css.refcnt)


@kernel_fn("css_put_many", "include/linux/cgroup.h")
async def css_put_many(ctx: Context, css: Css, nr: int) -> None:
    if css.refcnt is not None:
        await percpu_ref_put_many(ctx, css.refcnt, nr)


@kernel_fn("css_put", "include/linux/cgroup.h")
async def css_put(ctx: Context, css: Css) -> None:
    if css.refcnt is not None:
        await percpu_ref_put(ctx, css.refcnt)


@kernel_fn("css_tryget", "include/linux/cgroup.h")
async def css_tryget(ctx: Context, css: Css) -> bool:
    return css.refcnt is None or await percpu_ref_tryget(ctx, css.refcnt)


@kernel_fn("css_tryget_online", "include/linux/cgroup.h")
async def css_tryget_online(ctx: Context, css: Css) -> bool:
    """Take a reference unless the css has been killed."""
    return css.refcnt is None or await percpu_ref_tryget_live(ctx, css.refcnt)


# -- mkdir ------------------------------------------------------------------------------------------------------------


@kernel_fn("cgroup_mkdir", "kernel/cgroup/cgroup.c")
async def cgroup_mkdir(ctx: Context, parent: Cgroup, name: str) -> Cgroup | None:
    """Create a cgroup below *parent* with its memory css (3.1).

    None: an ancestor is at its limit (-EAGAIN), or memory was short. A cgroup without its css is removed again, as by
    rmdir.
    """
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        if await ctx.ask(ctx.machine.cgroup_tree.is_at_limit, parent):
            return None
        cgroup = await cgroup_create(ctx, parent, name)
        if cgroup is not None and not await css_create(ctx, cgroup):
            await cgroup_destroy_locked(ctx, cgroup)
            return None
        return cgroup


@kernel_fn("cgroup_create", "kernel/cgroup/cgroup.c", profiles="..5.4-fixed")
async def cgroup_create(ctx: Context, parent: Cgroup, name: str) -> Cgroup | None:
    """KERNEL.md 3.1.2: make the cgroup; its ancestors count it, and it pins its parent. None is -ENOMEM."""
    if not kmalloc(ctx, GFP_KERNEL, "percpu"):
        return None
    return await link_cgroup(ctx, parent, new_cgroup(ctx, parent, name))


@kernel_fn("cgroup_create", "kernel/cgroup/cgroup.c", profiles="6.12")
async def cgroup_create_6_12(ctx: Context, parent: Cgroup, name: str) -> Cgroup | None:
    """KERNEL-today 3.1: besides the reference count, the cgroup has per-CPU memory for its statistics."""
    if not kmalloc(ctx, GFP_KERNEL, "percpu") or not kmalloc(ctx, GFP_KERNEL, "percpu"):
        return None
    cgroup = new_cgroup(ctx, parent, name)
    cgroup.rstat = CgroupRstat(cgroup.actor, cgroup, rstat_of(parent))
    return await link_cgroup(ctx, parent, cgroup)


@kernel_fn("cgroup_create", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def cgroup_create_7_2(ctx: Context, parent: Cgroup, name: str) -> Cgroup | None:
    """KERNEL-7.2, row 3.1: per-CPU memory for the reference count, and for the statistics of the self css.

    The model has no statistics of a self css (CPU times).
    """
    if not kmalloc(ctx, GFP_KERNEL, "percpu") or not kmalloc(ctx, GFP_KERNEL, "percpu"):
        return None
    return await link_cgroup(ctx, parent, new_cgroup(ctx, parent, name))


def new_cgroup(ctx: Context, parent: Cgroup, name: str) -> Cgroup:
    """A cgroup that nobody knows yet, with its own css."""
    serial_nr = ctx.machine.next_css_serial()
    actor = Actor(ctx.world, f"cgroup {name}")
    cgroup = Cgroup(actor, name, serial_nr, parent)
    cgroup.self_css = Css(actor, f"self css of {name}", cgroup, parent.self_css)
    cgroup.self_css.prepare(ctx.machine)
    return cgroup


async def link_cgroup(ctx: Context, parent: Cgroup, cgroup: Cgroup) -> Cgroup:
    """Put the cgroup into the tree."""
    await ctx.ask(ctx.machine.cgroup_tree.link, cgroup)
    await css_get(ctx, parent.self_css)
    await ctx.ask(cgroup.self_css.set_flags, CssFlags.ONLINE)
    return cgroup


@kernel_fn("css_create", "kernel/cgroup/cgroup.c", profiles="..5.4-fixed")
async def css_create(ctx: Context, cgroup: Cgroup) -> bool:
    """KERNEL.md 3.1.3 to 3.1.5: allocate, link and online the memory css.

    False is -ENOMEM, if the reference count cannot be allocated. The css, which never was online, is then freed after
    a grace period.
    """
    parent = deref(cgroup.parent, "css_create(): cgrp->parent").css
    css = Css(cgroup.actor, f"css of {cgroup.name}", cgroup, parent)
    css.prepare(ctx.machine)
    css.memcg = await ctx.machine.memory_cgrp_subsys.css_alloc(ctx, css, parent)
    await init_and_link_css(ctx, css)
    if not kmalloc(ctx, GFP_KERNEL, "percpu"):
        await queue_css_free(ctx, css)
        return False
    alloc_css_id(ctx, css)
    await ctx.ask(parent.link_child, css)
    await online_css(ctx, css)
    return True


@kernel_fn("css_create", "kernel/cgroup/cgroup.c", profiles="6.12")
async def css_create_6_12(ctx: Context, cgroup: Cgroup) -> bool:
    """KERNEL-today 3.1: a css that cannot go online is unlinked and freed after a grace period; False is -ENOMEM.

    Such a css is freed by css_free alone: it has never been offline, nor released.
    """
    parent = deref(cgroup.parent, "css_create(): cgrp->parent").css
    css = Css(cgroup.actor, f"css of {cgroup.name}", cgroup, parent)
    css.prepare(ctx.machine)
    css.memcg = await ctx.machine.memory_cgrp_subsys.css_alloc(ctx, css, parent)
    if css.memcg is None:
        ctx.kfree(*css.parts())
        return False
    css.stats = MemcgStats.alloc(cgroup.actor, cgroup.name, parent.stats, len(ctx.machine.cpus))
    await init_and_link_css(ctx, css)
    await ctx.ask(rstat_of(cgroup).link_css, css)
    if kmalloc(ctx, GFP_KERNEL, "percpu"):
        alloc_css_id(ctx, css)
        await ctx.ask(parent.link_child, css)
        if await online_css_6_12(ctx, css):
            return True
        await ctx.ask(parent.unlink_child, css)
    await ctx.ask(rstat_of(cgroup).unlink_css, css)
    await queue_css_free(ctx, css)
    return False


@kernel_fn("css_create", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def css_create_7_2(ctx: Context, cgroup: Cgroup) -> bool:
    """KERNEL-7.2, row 3.1: the statistics belong to the css, and are made before it is linked; False is -ENOMEM.

    A css that cannot go online is freed as in 6.12, by css_free alone.
    """
    parent = deref(cgroup.parent, "css_create(): cgrp->parent").css
    css = Css(cgroup.actor, f"css of {cgroup.name}", cgroup, parent)
    css.prepare(ctx.machine)
    css.memcg = await ctx.machine.memory_cgrp_subsys.css_alloc(ctx, css, parent)
    if css.memcg is None:
        ctx.kfree(*css.parts())
        return False
    css.stats = MemcgStats.alloc(cgroup.actor, cgroup.name, parent.stats, len(ctx.machine.cpus))
    css.kill_finish_work = Work(cgroup.actor, css, name="kill_finish_work")
    css.kill_finish_work.init_work(kill_css_finish_work_fn)
    await init_and_link_css(ctx, css)
    if kmalloc(ctx, GFP_KERNEL, "percpu"):
        alloc_css_id(ctx, css)
        if kmalloc(ctx, GFP_KERNEL, "percpu"):
            css.rstat = CssRstat(cgroup.actor, css, css_rstat_of(parent))
            await ctx.ask(parent.link_child, css)
            if await online_css_6_12(ctx, css):
                return True
            await ctx.ask(parent.unlink_child, css)
    await queue_css_free(ctx, css)
    return False


def alloc_css_id(ctx: Context, css: Css) -> None:
    """Give the css an id: cgroup_idr_alloc()."""
    ctx.machine.cgroup_tree.css_idr.touch(UPDATE)
    css.id = ctx.machine.cgroup_tree.css_idr.ida_simple_get()


def free_css_id(ctx: Context, css: Css) -> None:
    """Give its id back: cgroup_idr_remove(); a css that could not be made has none."""
    if css.id:
        ctx.machine.cgroup_tree.css_idr.touch(UPDATE)
        ctx.machine.cgroup_tree.css_idr.ida_simple_remove(css.id)


async def queue_css_free(ctx: Context, css: Css) -> None:
    """Free the css after a grace period, by a work of the queue of its rwork."""
    css.destroy_rwork.work.init_work(css_free_rwork_fn)
    await queue_rcu_work(ctx, css.destroy_rwork)


@kernel_fn("init_and_link_css", "kernel/cgroup/cgroup.c")
async def init_and_link_css(ctx: Context, css: Css) -> None:
    """KERNEL.md 3.1.4: take references to the parent css and to the css's own cgroup."""
    lockdep_assert_held(ctx, "cgroup_mutex")
    BUG_ON(ctx, css.cgroup.has_css, "init_and_link_css: cgroup_css(cgrp, ss)")
    await css_get(ctx, deref(css.parent, "init_and_link_css(): css->parent"))
    await css_get(ctx, css.cgroup.self_css)


@kernel_fn("online_css", "kernel/cgroup/cgroup.c", profiles="..5.4-fixed")
async def online_css(ctx: Context, css: Css) -> None:
    """KERNEL.md 3.1.5: publish the css; the parent counts it as online."""
    lockdep_assert_held(ctx, "cgroup_mutex")
    await ctx.machine.memory_cgrp_subsys.css_online(ctx, memcg_of(css))
    await publish_css(ctx, css)


@kernel_fn("online_css", "kernel/cgroup/cgroup.c", profiles="6.12..")
async def online_css_6_12(ctx: Context, css: Css) -> bool:
    """KERNEL-today 3.1: False if css_online fails; every ancestor counts the css."""
    lockdep_assert_held(ctx, "cgroup_mutex")
    if await ctx.machine.memory_cgrp_subsys.css_online(ctx, memcg_of(css)) is False:
        return False
    await publish_css(ctx, css)
    await ctx.ask(css.count_live)
    return True


async def publish_css(ctx: Context, css: Css) -> None:
    """CSS_ONLINE, and the pointer from the cgroup; the css and its parent count it as online."""
    await ctx.ask(css.set_flags, CssFlags.ONLINE)
    css.cgroup.css = css
    css.cgroup.has_css = True
    await ctx.ask(css.add_online_cnt, 1)
    if css.parent is not None:
        await ctx.ask(css.parent.add_online_cnt, 1)


def memcg_of(css: Css) -> Memcg:
    """mem_cgroup_from_css()."""
    return deref(css.memcg, "mem_cgroup_from_css(css)")


def css_of(container: Shared) -> Css:
    """container_of(): the css that contains a reference count or a work."""
    assert isinstance(container, Css), f"{container.label} is inside no css"
    return container


# -- tasks ------------------------------------------------------------------------------------------------------------


@kernel_fn("cgroup_attach_task", "kernel/cgroup/cgroup.c", profiles="..5.4-fixed")
async def cgroup_attach_task(ctx: Context, dst_cgrp: Cgroup, task: Context) -> None:
    """Move *task* into *dst_cgrp*, at any point of its work (a write to cgroup.procs)."""
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        await ctx.ask(ctx.machine.cgroup_tree.move_task, task, dst_cgrp)


@kernel_fn("cgroup_attach_task", "kernel/cgroup/cgroup.c", profiles="6.12")
async def cgroup_attach_task_6_12(ctx: Context, dst_cgrp: Cgroup, task: Context) -> None:
    """KERNEL-today 3.7: the controller hears of the move later; until then the task runs with its old obj_cgroup.

    No task can be moved into a removed cgroup: -ENODEV (cgroup_kn_lock_live()).
    The kernel holds cgroup_threadgroup_rwsem, too, so that a task does not exit meanwhile; the model does not.
    """
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        if dst_cgrp.is_dead:
            return
        await ctx.ask(ctx.machine.cgroup_tree.move_task, task, dst_cgrp)
        await mem_cgroup_attach(ctx, task)


@kernel_fn("cgroup_attach_task", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def cgroup_attach_task_7_2(ctx: Context, dst_cgrp: Cgroup, task: Context) -> None:
    """KERNEL-7.2, row 3.7: an exiting task is left alone, and no task begins to exit meanwhile.

    So no task is told of a move after the controller has heard of its exit. (With favordynmods the semaphore is one of
    the task's; the model has the one of all.) cgroup_kn_lock_live() refuses a cgroup that is removed: -ENODEV.
    """
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        if dst_cgrp.is_dead:
            return
        await down_write(ctx, ctx.machine.cgroup_threadgroup_rwsem)
        if not task.is_exiting:
            async with SpinLockIrqHeld(ctx, ctx.machine.css_set_lock):
                await ctx.ask(ctx.machine.cgroup_tree.move_task, task, dst_cgrp)
            await mem_cgroup_attach(ctx, task)
        await up_write(ctx, ctx.machine.cgroup_threadgroup_rwsem)


@kernel_fn("cgroup_post_fork", "kernel/cgroup/cgroup.c", profiles="6.12..")
async def cgroup_post_fork(ctx: Context, child: Context) -> None:
    """KERNEL-today 3.7: the controller hears of a new task, which is in its cgroup already.

    If that is frozen, the task is told so under css_set_lock. (That it then stops is not modelled.)
    """
    cgroup = ctx.machine.root_cgroup if child.memcg is None else child.memcg.css.cgroup
    if cgroup.is_frozen:
        async with SpinLockIrqHeld(ctx, ctx.machine.css_set_lock), SpinLockHeld(ctx, sighand_of(child).siglock):
            pass  # child->jobctl |= JOBCTL_TRAP_FREEZE
    await mem_cgroup_fork(ctx, child)


@kernel_fn("cgroup_exit", "kernel/cgroup/cgroup.c", profiles="..5.4-fixed")
async def cgroup_exit(ctx: Context) -> None:
    """Remove an exiting task from its cgroup, which may become empty."""
    await ctx.ask(ctx.machine.cgroup_tree.move_task, ctx, ctx.machine.root_cgroup)


@kernel_fn("cgroup_exit", "kernel/cgroup/cgroup.c", profiles="6.12")
async def cgroup_exit_6_12(ctx: Context) -> None:
    """KERNEL-today 3.7: the cgroup may be empty, and be removed, before the controller hears of the exit."""
    await ctx.ask(ctx.machine.cgroup_tree.move_task, ctx, ctx.machine.root_cgroup)
    await mem_cgroup_exit(ctx)


@kernel_fn("cgroup_task_exit", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def cgroup_task_exit(ctx: Context) -> None:
    """KERNEL-7.2 N3.4: the controller hears of the exit while the task is still in its cgroup."""
    await mem_cgroup_exit(ctx)


@kernel_fn("cgroup_task_dead", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def cgroup_task_dead(ctx: Context) -> None:
    """KERNEL-7.2 N3.4: the task has switched out for the last time, and leaves its cgroup; IRQs are off.

    In the kernel this runs in finish_task_switch() of the next task. A root's task changes nothing that the model has.
    """
    if ctx.memcg is None:
        return
    async with SpinLockIrqHeld(ctx, ctx.machine.css_set_lock):
        css = await ctx.ask(ctx.machine.cgroup_tree.leave, ctx)
        if css is not None:
            await css_update_populated(ctx, css)


@kernel_fn("css_update_populated", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def css_update_populated(ctx: Context, css: Css) -> None:
    """KERNEL-7.2 N3.4, step 2: one css_set less has tasks; whatever gets empty thereby and is dying, is killed later.

    The count comes first, then the look at CSS_DYING; the remover sets CSS_DYING first, then looks at the count. So at
    least one of the two kills the css. (css_set_lock is held, IRQs are off.)
    """
    level, by_child = css, False
    while level.parent is not None:
        if not await ctx.ask(level.populate, -1, by_child=by_child):
            break
        if CssFlags.DYING in await ctx.ask(level.read_flags):
            await queue_kill_finish(ctx, level)
        level, by_child = level.parent, True


async def queue_kill_finish(ctx: Context, css: Css) -> None:
    """Queue kill_finish_work, with a reference of its own."""
    await css_get(ctx, css)
    work = deref(css.kill_finish_work, "css->kill_finish_work")
    is_queued = await queue_work(ctx, ctx.machine.cgroup_offline_wq, work)
    WARN_ON(ctx, not is_queued, "css_update_populated: kill_finish_work was queued already")


@kernel_fn("cgroup_procs_write", "kernel/cgroup/cgroup.c")
async def cgroup_procs_write(ctx: Context, procs: Dentry, task: Context) -> None:
    """Write a task's number to an open cgroup.procs, which moves the task into that cgroup."""
    inode = deref(await ctx.ask(procs.read_inode), "cgroup_procs_write(): file->f_inode")
    await cgroup_attach_task(ctx, root_of(procs.d_sb).cgroup_of(inode.i_ino), task)


# -- rmdir ------------------------------------------------------------------------------------------------------------


@kernel_fn("cgroup_rmdir", "kernel/cgroup/cgroup.c")
async def cgroup_rmdir(ctx: Context, cgroup: Cgroup) -> bool:
    """Remove a cgroup; False (-EBUSY) while it has tasks or online children."""
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        return await cgroup_destroy_locked(ctx, cgroup)


@kernel_fn("cgroup_destroy_locked", "kernel/cgroup/cgroup.c", profiles="..5.4-fixed")
async def cgroup_destroy_locked(ctx: Context, cgroup: Cgroup) -> bool:
    """Kill the css, count the cgroup as dying, kill its base reference; False if it is populated.

    KERNEL.md 3.2.1 to 3.2.3.
    """
    lockdep_assert_held(ctx, "cgroup_mutex")
    if await ctx.ask(cgroup.read_populated):
        return False
    await ctx.ask(cgroup.self_css.clear_flags, CssFlags.ONLINE)
    if cgroup.has_css:
        await kill_css(ctx, cgroup.css)
    await ctx.ask(ctx.machine.cgroup_tree.mark_dying, cgroup)
    await kernfs_remove(ctx, cgroup.self_css.files)
    await percpu_ref_kill(ctx, deref(cgroup.self_css.refcnt, "cgroup_destroy_locked(): cgrp->self.refcnt"))
    return True


@kernel_fn("cgroup_destroy_locked", "kernel/cgroup/cgroup.c", profiles="6.12")
async def cgroup_destroy_locked_6_12(ctx: Context, cgroup: Cgroup) -> bool:
    """KERNEL-today 3.2: the ancestors count the cgroup as dying when its directory has gone."""
    lockdep_assert_held(ctx, "cgroup_mutex")
    if await ctx.ask(cgroup.read_populated):
        return False
    await ctx.ask(cgroup.self_css.clear_flags, CssFlags.ONLINE)
    if cgroup.has_css:
        await kill_css(ctx, cgroup.css)
    await remove_directory(ctx, cgroup)
    return True


async def remove_directory(ctx: Context, cgroup: Cgroup) -> None:
    """Wait for those who use a file of the cgroup's own; then count the cgroup as dying, and kill its reference."""
    await kernfs_remove(ctx, cgroup.self_css.files)
    await ctx.ask(ctx.machine.cgroup_tree.mark_dying, cgroup)
    await percpu_ref_kill(ctx, deref(cgroup.self_css.refcnt, "cgroup_destroy_locked(): cgrp->self.refcnt"))


@kernel_fn("cgroup_destroy_locked", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def cgroup_destroy_locked_7_2(ctx: Context, cgroup: Cgroup) -> bool:
    """KERNEL-7.2 N3.1: False if a task is seen; tasks that are exiting are not, and may delay the kill of the css.

    The model has nothing that looks at dead css_sets (step 4), no release agent and no bpf (8, 9).
    """
    lockdep_assert_held(ctx, "cgroup_mutex")
    tree = ctx.machine.cgroup_tree
    if await ctx.ask(tree.has_visible_task, cgroup) or await ctx.ask(tree.has_online_child, cgroup):
        return False
    await ctx.ask(cgroup.self_css.clear_flags, CssFlags.ONLINE)
    if cgroup.has_css:
        await kill_css_sync(ctx, cgroup.css)
    await remove_directory(ctx, cgroup)
    if cgroup.has_css and not await ctx.ask(cgroup.css.read_populated):
        await kill_css_finish(ctx, cgroup.css)
    return True


@kernel_fn("kill_css_sync", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def kill_css_sync(ctx: Context, css: Css) -> None:
    """KERNEL-7.2 N3.2: the css is dying for all to see, but its reference count is not touched yet.

    Until kill_css_finish(), css_tryget_online() goes on succeeding.
    """
    lockdep_assert_held(ctx, "cgroup_mutex")
    if CssFlags.DYING in await ctx.ask(css.read_flags):
        return
    await ctx.ask(css.set_flags, CssFlags.DYING)
    await kernfs_remove(ctx, css.files)
    await ctx.ask(css.count_dying)


@kernel_fn("kill_css_finish", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def kill_css_finish(ctx: Context, css: Css) -> None:
    """KERNEL-7.2 N3.3: kill the reference count, unless the other one of the two was first."""
    lockdep_assert_held(ctx, "cgroup_mutex")
    refcnt = deref(css.refcnt, "kill_css_finish(): css->refcnt")
    if await ctx.ask(refcnt.read_flags) & DEAD:
        return
    await css_get(ctx, css)
    await percpu_ref_kill_and_confirm(ctx, refcnt, css_killed_ref_fn)


@kernel_fn("kill_css_finish_work_fn", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def kill_css_finish_work_fn(ctx: Context, work: Work) -> None:
    """KERNEL-7.2 N3.4: the last task of a dying css has gone."""
    css = css_of(work.container)
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        await kill_css_finish(ctx, css)
    await css_put(ctx, css)


@kernel_fn("kill_css", "kernel/cgroup/cgroup.c", profiles="..5.4-fixed")
async def kill_css(ctx: Context, css: Css) -> None:
    """KERNEL.md 3.2.2: kill the css, so that tryget_online fails; css_killed_ref_fn() runs when every CPU sees that."""
    lockdep_assert_held(ctx, "cgroup_mutex")
    if CssFlags.DYING in await ctx.ask(css.read_flags):
        return
    await ctx.ask(css.set_flags, CssFlags.DYING)
    await kernfs_remove(ctx, css.files)
    await css_get(ctx, css)
    await percpu_ref_kill_and_confirm(ctx, deref(css.refcnt, "kill_css(): css->refcnt"), css_killed_ref_fn)


@kernel_fn("kill_css", "kernel/cgroup/cgroup.c", profiles="6.12")
async def kill_css_6_12(ctx: Context, css: Css) -> None:
    """KERNEL-today 3.2.1 to 3.2.6: after the kill the css counts as dying, in its cgroup and in all above."""
    lockdep_assert_held(ctx, "cgroup_mutex")
    if CssFlags.DYING in await ctx.ask(css.read_flags):
        return
    await ctx.ask(css.set_flags, CssFlags.DYING)
    await kernfs_remove(ctx, css.files)
    await css_get(ctx, css)
    await percpu_ref_kill_and_confirm(ctx, deref(css.refcnt, "kill_css(): css->refcnt"), css_killed_ref_fn)
    await ctx.ask(css.count_dying)


@kernel_fn("css_killed_ref_fn", "kernel/cgroup/cgroup.c", profiles="..6.12")
async def css_killed_ref_fn(ctx: Context, ref: PercpuRef) -> None:
    """KERNEL.md 3.2.4: every CPU sees the kill; offline the css once its children are offline."""
    css = css_of(ref.container)
    if await ctx.ask(css.add_online_cnt, -1) == 0:
        css.destroy_work.init_work(css_killed_work_fn)
        await queue_work(ctx, ctx.machine.cgroup_offline_wq, css.destroy_work)


@kernel_fn("css_killed_ref_fn", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def css_killed_ref_fn_7_2(ctx: Context, ref: PercpuRef) -> None:
    """KERNEL-7.2 N3.5: offline only after another grace period, when tests of CSS_DYING under RCU have ended."""
    css = css_of(ref.container)
    if await ctx.ask(css.add_online_cnt, -1) == 0:
        css.destroy_rwork.work.init_work(css_killed_work_fn)
        css.destroy_rwork.wq = ctx.machine.cgroup_offline_wq
        await queue_rcu_work(ctx, css.destroy_rwork)


@kernel_fn("css_killed_work_fn", "kernel/cgroup/cgroup.c")
async def css_killed_work_fn(ctx: Context, work: Work) -> None:
    """KERNEL.md 3.2.5: offline the css, then each killed ancestor whose last online child this was."""
    css: Css | None = css_of(work.container)
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        while css is not None:
            await offline_css(ctx, css)
            await css_put(ctx, css)
            css = css.parent  # it cannot go away while cgroup_mutex is held
            if css is None or await ctx.ask(css.add_online_cnt, -1) != 0:
                break


@kernel_fn("offline_css", "kernel/cgroup/cgroup.c")
async def offline_css(ctx: Context, css: Css) -> None:
    lockdep_assert_held(ctx, "cgroup_mutex")
    if CssFlags.ONLINE in await ctx.ask(css.read_flags):
        await ctx.machine.memory_cgrp_subsys.css_offline(ctx, memcg_of(css))
        await ctx.ask(css.clear_flags, CssFlags.ONLINE)


# -- release ----------------------------------------------------------------------------------------------------------


@kernel_fn("css_release", "kernel/cgroup/cgroup.c")
async def css_release(ctx: Context, ref: PercpuRef) -> None:
    """KERNEL.md 3.4.1: the last reference has been dropped; continue in a worker."""
    css = css_of(ref.container)
    css.destroy_work.init_work(css_release_work_fn)
    await queue_work(ctx, ctx.machine.cgroup_release_wq, css.destroy_work)


@kernel_fn("css_release_work_fn", "kernel/cgroup/cgroup.c", profiles="..5.4-fixed")
async def css_release_work_fn(ctx: Context, work: Work) -> None:
    """KERNEL.md 3.4.2 and 3.4.4: unlink, then free after a grace period."""
    css = css_of(work.container)
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        await ctx.ask(css.set_flags, CssFlags.RELEASED)
        if css.memcg is None:
            await ctx.ask(ctx.machine.cgroup_tree.forget, css.cgroup)
        else:
            await ctx.ask(deref(css.parent, "css_release_work_fn(): css->parent").unlink_child, css)
            await ctx.machine.memory_cgrp_subsys.css_released(ctx, css.memcg)
    await queue_css_free(ctx, css)


@kernel_fn("css_release_work_fn", "kernel/cgroup/cgroup.c", profiles="6.12")
async def css_release_work_fn_6_12(ctx: Context, work: Work) -> None:
    """KERNEL-today 3.4: what was counted for the css reaches its parent before it is unlinked from the statistics."""
    css = css_of(work.container)
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        await ctx.ask(css.set_flags, CssFlags.RELEASED)
        if css.memcg is None:
            await cgroup_rstat_flush(ctx, css.cgroup)
            await ctx.ask(ctx.machine.cgroup_tree.forget, css.cgroup)
        else:
            await ctx.ask(deref(css.parent, "css_release_work_fn(): css->parent").unlink_child, css)
            await cgroup_rstat_flush(ctx, css.cgroup)
            await ctx.ask(rstat_of(css.cgroup).unlink_css, css)
            await ctx.machine.memory_cgrp_subsys.css_released(ctx, css.memcg)
            below = await ctx.ask(css.count_released)
            WARN_ON(ctx, below, "css_release_work_fn: css->nr_descendants")
    await queue_css_free(ctx, css)


@kernel_fn("css_release_work_fn", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def css_release_work_fn_7_2(ctx: Context, work: Work) -> None:
    """KERNEL-7.2, row 3.4: the statistics of this css alone are flushed; it is linked on no list of statistics."""
    css = css_of(work.container)
    async with MutexHeld(ctx, ctx.machine.cgroup_mutex):
        await ctx.ask(css.set_flags, CssFlags.RELEASED)
        if css.memcg is None:
            await ctx.ask(ctx.machine.cgroup_tree.forget, css.cgroup)
        else:
            await ctx.ask(deref(css.parent, "css_release_work_fn(): css->parent").unlink_child, css)
            await css_rstat_flush(ctx, css)
            await ctx.machine.memory_cgrp_subsys.css_released(ctx, css.memcg)
            below = await ctx.ask(css.count_released)
            WARN_ON(ctx, below, "css_release_work_fn: css->nr_descendants")
    css.destroy_rwork.wq = ctx.machine.cgroup_free_wq
    await queue_css_free(ctx, css)


@kernel_fn("css_free_rwork_fn", "kernel/cgroup/cgroup.c", profiles="..5.4-fixed")
async def css_free_rwork_fn(ctx: Context, work: Work) -> None:
    """KERNEL.md 3.4.3: free the css, then drop its references to its cgroup and its parent css."""
    css = css_of(work.container)
    await percpu_ref_exit(ctx, deref(css.refcnt, "css_free_rwork_fn(): css->refcnt"))
    parent, cgroup = deref(css.parent, "css_free_rwork_fn(): css->parent"), css.cgroup
    if css.memcg is not None:
        await ctx.machine.memory_cgrp_subsys.css_free(ctx, css.memcg)
        free_css_id(ctx, css)
        ctx.kfree(*css.parts())
        await css_put(ctx, cgroup.self_css)
    else:
        ctx.machine.cgroup_tree.touch_part("nr_cgrps", UPDATE)
        ctx.machine.cgroup_tree.nr_cgrps -= 1
        ctx.kfree(cgroup, *css.parts())
        cgroup.actor.retire()
    await css_put(ctx, parent)


@kernel_fn("css_free_rwork_fn", "kernel/cgroup/cgroup.c", profiles="6.12")
async def css_free_rwork_fn_6_12(ctx: Context, work: Work) -> None:
    """KERNEL-today 3.5: free the css and the statistics; a cgroup lets its parent go before it is freed."""
    css = css_of(work.container)
    await percpu_ref_exit(ctx, deref(css.refcnt, "css_free_rwork_fn(): css->refcnt"))
    parent, cgroup = deref(css.parent, "css_free_rwork_fn(): css->parent"), css.cgroup
    if css.memcg is not None:
        await ctx.machine.memory_cgrp_subsys.css_free(ctx, css.memcg)
        free_css_id(ctx, css)
        ctx.kfree(css.stats, *css.parts())
        await css_put(ctx, cgroup.self_css)
        await css_put(ctx, parent)
    else:
        ctx.machine.cgroup_tree.touch_part("nr_cgrps", UPDATE)
        ctx.machine.cgroup_tree.nr_cgrps -= 1
        await css_put(ctx, parent)
        await cgroup_rstat_exit(ctx, cgroup)
        ctx.kfree(cgroup, *css.parts())
        cgroup.actor.retire()


@kernel_fn("css_free_rwork_fn", "kernel/cgroup/cgroup.c", profiles="7.2..")
async def css_free_rwork_fn_7_2(ctx: Context, work: Work) -> None:
    """KERNEL-7.2 N3.6: after a grace period nobody counts for the css any more; flush it once more, and free it."""
    css = css_of(work.container)
    await percpu_ref_exit(ctx, deref(css.refcnt, "css_free_rwork_fn(): css->refcnt"))
    parent, cgroup = deref(css.parent, "css_free_rwork_fn(): css->parent"), css.cgroup
    if css.memcg is not None:
        await css_rstat_exit(ctx, css)
        await ctx.machine.memory_cgrp_subsys.css_free(ctx, css.memcg)
        free_css_id(ctx, css)
        ctx.kfree(css.stats, *css.parts())
        await css_put(ctx, cgroup.self_css)
        await css_put(ctx, parent)
    else:
        ctx.machine.cgroup_tree.touch_part("nr_cgrps", UPDATE)
        ctx.machine.cgroup_tree.nr_cgrps -= 1
        await css_put(ctx, parent)
        await css_rstat_exit(ctx, css)
        ctx.kfree(cgroup, *css.parts())
        cgroup.actor.retire()
