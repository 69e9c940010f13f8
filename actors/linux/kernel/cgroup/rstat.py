"""Statistics by cgroup and CPU. kernel/cgroup/rstat.c @6.12, @7.2 and mm/memcontrol.c's counters; KERNEL-today 15.

A change goes into a counter of its CPU, which no other CPU writes. Each CPU has a tree of the cgroups that have changed
there since the last flush. A flush takes a subtree off the trees of all CPUs, one CPU after the other, and adds what is
new to the totals, children before parents. Between two flushes a reader sees old totals.

In 7.2 each controller has trees of its own, of csses, which flushes alone build (KERNEL-7.2 N4): an update puts its css
on a list of its CPU, without a lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from actors.linux.include.rstat import cgroup_rstat_flush, css_rstat_flush, mem_cgroup_css_rstat_flush
from actors.linux.kernel.locking.locks import SpinLock, SpinLockIrqHeld
from actors.machine.context import WARN_ON, Context, deref
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn
from protocol.formats.slabinfo import PAGE_SIZE
from protocol.operations import ATOMIC_NS, COMMUTE, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.kernel.cgroup.cgroup import Cgroup, Css
    from actors.system.actor import Actor
    from actors.system.world import World

ITEMS = ("anon", "file", "kernel", "shmem", "slab_reclaimable", "slab_unreclaimable")
"""The items that are counted, by their names in memory.stat and in its order."""

BYTE_ITEMS = ("slab_reclaimable", "slab_unreclaimable")
"""The items in bytes; all others are in pages."""

UPDATES_BATCH = 64
"""MEMCG_CHARGE_BATCH since 5.14: the changes, in pages, that a CPU keeps to itself before it tells of them."""

Key = tuple[int | None, str]
"""A counter: an item of a node, or with None the item of the whole memcg."""


# -- the trees of 6.12 ------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class RstatLocks:
    """cgroup_rstat_lock guards all totals, cgroup_rstat_cpu_lock of a CPU the tree of that CPU."""

    lock: SpinLock
    cpu_locks: list[SpinLock]

    @classmethod
    def boot(cls, world: World, cpus: int) -> RstatLocks:
        return cls(
            SpinLock.boot(world, "cgroup_rstat_lock"),
            [SpinLock.boot(world, "cgroup_rstat_cpu_lock") for _ in range(cpus)],
        )


@attrs.define(eq=False)
class CgroupRstat(Shared):
    """struct cgroup_rstat_cpu of one cgroup, all CPUs, and its rstat_css_list.

    `linked` are the CPUs that have the cgroup on their tree, `updated_children` its children there. A cgroup is linked
    only below a linked parent.
    """

    cgroup: Cgroup
    parent: CgroupRstat | None
    linked: set[int] = attrs.field(factory=set, init=False)
    updated_children: dict[int, list[CgroupRstat]] = attrs.field(factory=dict, init=False)
    csses: tuple[Css, ...] = attrs.field(default=(), init=False)

    @property
    def label(self) -> str:
        return f"rstat of {self.cgroup.label}"

    def _use(self, cpu: int) -> None:
        """Change this cgroup's links on *cpu*, for an access that came by way of another cgroup."""
        if self.freed is not None:
            self.actor.world.raise_use_after_free(self)
        self.touch_part(cpu, UPDATE)

    @operation(READ, cost=ATOMIC_NS)
    def is_linked(self, cpu: int) -> bool:
        """updated_next is set: a racy look without the lock."""
        self.touch_part(cpu, READ)
        return cpu in self.linked

    @operation(READ)
    def link(self, cpu: int) -> None:
        """Link the cgroup, and the ancestors that are not linked either. The CPU's lock is held."""
        level = self
        while cpu not in level.linked:
            level._use(cpu)
            level.linked.add(cpu)
            if level.parent is None:
                level.touch_part("updated", COMMUTE)
                level.reconsider()
                break
            level.parent._use(cpu)
            level.parent.updated_children.setdefault(cpu, []).insert(0, level)
            level = level.parent

    @operation(READ)
    def take_updated(self, cpu: int) -> tuple[CgroupRstat, ...]:
        """Take this cgroup's subtree off the CPU's tree; return it, children before parents. The CPU's lock is held."""
        self._use(cpu)
        if self.parent is None:
            self.touch_part("updated", UPDATE)
        if cpu not in self.linked:
            return ()
        if self.parent is not None:
            self.parent._use(cpu)
            self.parent.updated_children[cpu].remove(self)
        taken = [self]
        for level in taken:  # level by level: it grows behind the loop
            level._use(cpu)
            level.linked.discard(cpu)
            taken += level.updated_children.pop(cpu, [])
        return tuple(reversed(taken))

    def is_updated(self) -> bool:
        return bool(self.linked)

    @operation(READ, when=is_updated, idle=True, part="updated")
    def wait_until_updated(self) -> None:
        """Wait until some CPU has something for the next periodic flush."""

    @operation(READ, part="rstat_css_list")
    def list_csses(self) -> tuple[Css, ...]:
        """The csses with statistics, under RCU."""
        return self.csses

    @operation(UPDATE, part="rstat_css_list")
    def link_css(self, css: Css) -> None:
        self.csses = (*self.csses, css)

    @operation(UPDATE, part="rstat_css_list")
    def unlink_css(self, css: Css) -> None:
        """list_del_rcu(): no flush that starts from now on adds anything of *css*."""
        self.csses = tuple(other for other in self.csses if other is not css)


def rstat_of(cgroup: Cgroup) -> CgroupRstat:
    """cgroup_rstat_cpu(cgrp, cpu), for every CPU."""
    return deref(cgroup.rstat, "cgrp->rstat_cpu")


@kernel_fn("cgroup_rstat_updated", "kernel/cgroup/rstat.c", profiles="6.12")
async def cgroup_rstat_updated_6_12(ctx: Context, cgroup: Cgroup, cpu: int) -> None:
    """KERNEL-today 15.2: put the cgroup on the tree of *cpu*, with its ancestors, unless it is there.

    The first look takes no lock. The caller has counted before it looks, so a flush that has taken the cgroup off the
    tree meanwhile has not read the counter yet, or else the cgroup is linked again.
    """
    rstat = rstat_of(cgroup)
    if await ctx.ask(rstat.is_linked, cpu):
        return
    async with SpinLockIrqHeld(ctx, ctx.machine.rstat.cpu_locks[cpu]):
        await ctx.ask(rstat.link, cpu)


@kernel_fn("cgroup_rstat_flush", "kernel/cgroup/rstat.c", profiles="6.12")
async def cgroup_rstat_flush_6_12(ctx: Context, cgroup: Cgroup) -> None:
    """KERNEL-today 15.4: flush the subtree, CPU by CPU; others may flush in between.

    The kernel drops the lock after a CPU if somebody waits for it or for the CPU, the model after each.
    """
    ctx.might_sleep("cgroup_rstat_flush")
    locks = ctx.machine.rstat
    for cpu, cpu_lock in enumerate(locks.cpu_locks):
        async with SpinLockIrqHeld(ctx, locks.lock):
            async with SpinLockIrqHeld(ctx, cpu_lock):
                updated = await ctx.ask(rstat_of(cgroup).take_updated, cpu)
            for rstat in updated:
                with ctx.rcu_read_section:
                    for css in await ctx.ask(rstat.list_csses):
                        await mem_cgroup_css_rstat_flush(ctx, css, cpu)


@kernel_fn("cgroup_rstat_exit", "kernel/cgroup/rstat.c", profiles="6.12")
async def cgroup_rstat_exit(ctx: Context, cgroup: Cgroup) -> None:
    """Flush once more; then no CPU has the cgroup or a child on its tree, and the per-CPU part is freed."""
    await cgroup_rstat_flush(ctx, cgroup)
    rstat = rstat_of(cgroup)
    for cpu in range(len(ctx.machine.cpus)):
        WARN_ON(ctx, rstat.updated_children.get(cpu), "cgroup_rstat_exit: rstatc->updated_children != cgrp")
        WARN_ON(ctx, cpu in rstat.linked, "cgroup_rstat_exit: rstatc->updated_next")
    ctx.kfree(rstat)


# -- the trees of 7.2, by controller (KERNEL-7.2 N4) ------------------------------------------------------------------


@attrs.define(eq=False)
class CssRstat(Shared):
    """struct css_rstat_cpu of one css, all CPUs.

    `queued` are the CPUs whose `lnode` is on a list (or about to be), `linked` those that have the css on their tree,
    `updated_children` its children there. Updaters change `queued`; the rest is under rstat_ss_lock.
    """

    css: Css
    parent: CssRstat | None
    queued: set[int] = attrs.field(factory=set, init=False)
    linked: set[int] = attrs.field(factory=set, init=False)
    updated_children: dict[int, list[CssRstat]] = attrs.field(factory=dict, init=False)

    @property
    def label(self) -> str:
        return f"rstat of {self.css.label}"

    def _use(self, part: int | str) -> None:
        """Change this part, for an access that came by way of another css."""
        if self.freed is not None:
            self.actor.world.raise_use_after_free(self)
        self.touch_part(part, UPDATE)

    @operation(READ, cost=ATOMIC_NS)
    def is_queued(self, cpu: int) -> bool:
        """llist_on_list(&rstatc->lnode): a racy look without a lock."""
        self.touch_part(f"lnode{cpu}", READ)
        return cpu in self.queued

    @operation(READ, cost=ATOMIC_NS)
    def claim(self, cpu: int) -> bool:
        """try_cmpxchg() of lnode.next from the node itself to NULL; False if another context was first."""
        self.touch_part(f"lnode{cpu}", UPDATE)
        is_first = cpu not in self.queued
        self.queued.add(cpu)
        return is_first

    @operation(READ)
    def link(self, cpu: int) -> None:
        """Free the lnode for the next update; link the css, and the ancestors that are not linked either."""
        self._use(f"lnode{cpu}")
        self.queued.discard(cpu)
        level = self
        while cpu not in level.linked:
            level._use(cpu)
            level.linked.add(cpu)
            if level.parent is None:
                break
            level.parent._use(cpu)
            level.parent.updated_children.setdefault(cpu, []).insert(0, level)
            level = level.parent

    @operation(READ)
    def take_updated(self, ctx: Context, cpu: int) -> tuple[CssRstat, ...]:
        """css_rstat_updated_list(): take this css's subtree off the CPU's tree; return it, children before parents."""
        self._use(cpu)
        if cpu not in self.linked:
            return ()
        if self.parent is not None:
            self.parent._use(cpu)
            children = self.parent.updated_children.get(cpu, [])
            if not WARN_ON(ctx, self not in children, "css_rstat_updated_list: the list ended at the parent"):
                children.remove(self)
        taken = [self]
        for level in taken:  # level by level: it grows behind the loop
            level._use(cpu)
            level.linked.discard(cpu)
            taken += level.updated_children.pop(cpu, [])
        return tuple(reversed(taken))


@attrs.define(eq=False)
class RstatSubsys(Shared):
    """The statistics of one controller: `lheads` has for each CPU the csses that have changed since the last flush.

    The `lock` (ss->rstat_ss_lock) guards the trees of all CPUs, and the totals. It is held for one CPU at a time.
    """

    lock: SpinLock
    lheads: list[list[CssRstat]]
    root: CssRstat | None = attrs.field(default=None, init=False)

    @classmethod
    def boot(cls, actor: Actor, cpus: int) -> RstatSubsys:
        return cls(actor, SpinLock(actor, "rstat_ss_lock"), [[] for _ in range(cpus)])

    @property
    def label(self) -> str:
        return "rstat of memory"

    @operation(READ, cost=ATOMIC_NS)
    def llist_add(self, rstat: CssRstat, cpu: int) -> None:
        """Put the css at the head of the CPU's list."""
        self.touch_part(cpu, UPDATE)
        self.touch_part("updated", COMMUTE)
        self.lheads[cpu].insert(0, rstat)
        self.reconsider()

    @operation(READ)
    def llist_del_first(self, cpu: int) -> CssRstat | None:
        """Take the css at the head off the list, if there is one. The head is read from its lnode."""
        self.touch_part(cpu, UPDATE)
        if not self.lheads[cpu]:
            return None
        rstat = self.lheads[cpu].pop(0)
        if rstat.freed is not None:
            self.actor.world.raise_use_after_free(rstat)
        return rstat

    def is_updated(self) -> bool:
        return any(self.lheads) or bool(self.root is not None and self.root.linked)

    @operation(READ, when=is_updated, idle=True, part="updated")
    def wait_until_updated(self) -> None:
        """Wait until some CPU has something for the next periodic flush."""


def css_rstat_of(css: Css) -> CssRstat:
    """css_rstat_cpu(css, cpu), for every CPU."""
    return deref(css.rstat, "css->rstat_cpu")


@kernel_fn("css_rstat_updated", "kernel/cgroup/rstat.c", profiles="7.2..", known_as="__css_rstat_updated")
async def css_rstat_updated_7_2(ctx: Context, css: Css, cpu: int) -> None:
    """KERNEL-7.2 N4.1: put the css on the list of *cpu*, unless it is there. No lock; preemption is off.

    The caller has counted before it looks. A flush frees the lnode before it reads the counters, so it reads this one,
    or else the css is put on the list again. (In the kernel a store may be seen after a later look, for there is no
    barrier. In the model it may not; the variation `look-before-count` shows it.)
    """
    rstat = css_rstat_of(css)
    if await ctx.ask(rstat.is_queued, cpu):
        return
    if await ctx.ask(rstat.claim, cpu):
        await ctx.ask(ctx.machine.memory_rstat.llist_add, rstat, cpu)


@kernel_fn("css_rstat_flush", "kernel/cgroup/rstat.c", profiles="7.2..")
async def css_rstat_flush_7_2(ctx: Context, css: Css) -> None:
    """KERNEL-7.2 N4.3: flush the subtree, CPU by CPU; in between the lock is free."""
    ctx.might_sleep("css_rstat_flush")
    rstat, subsys = css_rstat_of(css), ctx.machine.memory_rstat
    for cpu in range(len(ctx.machine.cpus)):
        async with SpinLockIrqHeld(ctx, subsys.lock):
            while (queued := await ctx.ask(subsys.llist_del_first, cpu)) is not None:
                await ctx.ask(queued.link, cpu)
            for updated in await ctx.ask(rstat.take_updated, ctx, cpu):
                await mem_cgroup_css_rstat_flush(ctx, updated.css, cpu)


@kernel_fn("css_rstat_exit", "kernel/cgroup/rstat.c", profiles="7.2..")
async def css_rstat_exit(ctx: Context, css: Css) -> None:
    """KERNEL-7.2 N4.4: flush once more, and free the per-CPU part; it leaks if the css is still on a tree.

    A cgroup's own css has statistics in the kernel only.
    """
    if css.rstat is None:
        return
    await css_rstat_flush(ctx, css)
    for cpu in range(len(ctx.machine.cpus)):
        children = css.rstat.updated_children.get(cpu)
        if WARN_ON(ctx, children, "css_rstat_exit: rstatc->updated_children != css") or WARN_ON(
            ctx, cpu in css.rstat.linked, "css_rstat_exit: rstatc->updated_next"
        ):
            return
    ctx.kfree(css.rstat)


# -- the counters of a memcg ------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class CpuStats:
    """memcg_vmstats_percpu and lruvec_stats_percpu of one CPU: the counters, and their values at the last flush."""

    state: Counter[Key] = attrs.field(factory=Counter)
    prev: Counter[Key] = attrs.field(factory=Counter)
    updates: int = 0


@attrs.define(eq=False)
class MemcgStats(Shared):
    """memcg_vmstats and lruvec_stats of one memcg, with their per-CPU parts.

    After a flush `state` is the sum over the subtree, `state_local` that of the memcg itself. `pending` is what flushes
    of its children have left for it. `updates` are changes since the last flush, in pages: whether a flush is worth it.
    """

    name: str
    parent: MemcgStats | None
    percpu: list[CpuStats]
    state: Counter[Key] = attrs.field(factory=Counter, init=False)
    state_local: Counter[Key] = attrs.field(factory=Counter, init=False)
    pending: Counter[Key] = attrs.field(factory=Counter, init=False)
    updates: int = attrs.field(default=0, init=False)

    @classmethod
    def alloc(cls, actor: Actor, name: str, parent: MemcgStats | None, cpus: int) -> MemcgStats:
        """All counters are zero."""
        return cls(actor, name, parent, [CpuStats() for _ in range(cpus)])

    @property
    def label(self) -> str:
        return f"statistics of {self.name}"

    @property
    def flush_limit(self) -> int:
        return UPDATES_BATCH * len(self.percpu)

    def unflushed(self, key: Key) -> int:
        """What the CPUs have counted since the last flush, for the shadow accounting."""
        return sum(cpu.state[key] - cpu.prev[key] for cpu in self.percpu)

    def count(self, ctx: Context, keys: Iterable[Key], nr: int) -> list[MemcgStats]:
        """Add *nr* to counters of this CPU; return the levels at which a flush comes due: see `tell_updates`.

        KERNEL-today 15.2. The changes are noted at every level in the same step: they are a hint, which nobody else
        reads on this CPU.
        """
        pages = self.count_here(ctx, keys, nr)
        due = []
        level: MemcgStats | None = self
        while level is not None:
            ctx.use_part(level)
            cpu = level.percpu[ctx.smp_processor_id]
            cpu.updates += pages
            if cpu.updates >= UPDATES_BATCH:
                due.append(level)
            level = level.parent
        return due

    def count_here(self, ctx: Context, keys: Iterable[Key], nr: int) -> int:
        """Add *nr* to counters of this CPU, and return how many pages that are, for whether a flush is worth it."""
        ctx.use_part(self)
        pages = 0
        for key in keys:
            self.percpu[ctx.smp_processor_id].state[key] += nr
            pages = max(abs(nr) // PAGE_SIZE, 1) if key[1] in BYTE_ITEMS else abs(nr)
        return pages

    @operation(READ, part="stats_updates")
    def note_updates(self, cpu: int, pages: int) -> int | None:
        """KERNEL-7.2, row 15.2: note changes of this CPU; return the sum of those that only this CPU knows of.

        None: there are enough for a flush already, here and so at all levels above.
        """
        if self.updates > self.flush_limit:
            return None
        self.touch_part(cpu, UPDATE)
        self.percpu[cpu].updates += pages
        return self.percpu[cpu].updates

    @operation(UPDATE, part="stats_updates")
    def add_updates(self, cpu: int) -> None:
        """KERNEL-7.2, row 15.2: exchange this CPU's changes with 0, and add them to those of all CPUs."""
        self.touch_part(cpu, UPDATE)
        self.updates += self.percpu[cpu].updates
        self.percpu[cpu].updates = 0

    @operation(UPDATE, part="stats_updates")
    def tell_updates(self, cpu: int) -> None:
        """Add this CPU's changes to those of all CPUs, unless there are enough for a flush already."""
        self.touch_part(cpu, UPDATE)
        if self.updates <= self.flush_limit:
            self.updates += self.percpu[cpu].updates
        self.percpu[cpu].updates = 0

    @operation(READ, part="stats_updates")
    def needs_flush(self) -> bool:
        """memcg_vmstats_needs_flush()."""
        return self.updates > self.flush_limit

    @operation(UPDATE, part="state")
    def flush_cpu(self, cpu: int) -> None:
        """KERNEL-today 15.4: add one CPU's changes, and what the children left, here and to the parent's pending.

        cgroup_rstat_lock is held; *cpu* goes on counting.
        """
        self.touch_part(cpu, READ)
        self.touch_part("stats_updates", UPDATE)
        if self.parent is not None:
            if self.parent.freed is not None:
                self.actor.world.raise_use_after_free(self.parent)
            self.parent.touch_part("state", UPDATE)
        part, pending = self.percpu[cpu], self.pending
        self.pending = Counter()
        for key in dict.fromkeys((*pending, *part.state)):
            of_cpu = part.state[key] - part.prev[key]
            part.prev[key] = part.state[key]
            self.state_local[key] += of_cpu
            self.state[key] += of_cpu + pending[key]
            if self.parent is not None:
                self.parent.pending[key] += of_cpu + pending[key]
        self.updates = part.updates = 0

    @operation(READ, part="state", cost=ATOMIC_NS)
    def read_state(self, item: str) -> int:
        """memcg_page_state(): the item of the subtree at the last flush; a value below zero reads as 0."""
        return max(self.state[None, item], 0)
