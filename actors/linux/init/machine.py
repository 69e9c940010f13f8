"""The machine: the kernel's global state, booted for one run."""

from __future__ import annotations

import functools
import itertools
import types
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

import attrs

from actors.linux.fs.super import Vfs
from actors.linux.init.boot_caches import (
    flags_of,
    has_ctor,
    has_usercopy,
    is_exempt,
)
from actors.linux.kernel.cgroup.cgroup import Cgroup, CgroupSubsys, CgroupTree, Css, CssFlags, cgroup_post_fork
from actors.linux.kernel.cgroup.rstat import CgroupRstat, CssRstat, MemcgStats, RstatLocks, RstatSubsys
from actors.linux.kernel.exit import do_exit
from actors.linux.kernel.locking.lockdep import Lockdep
from actors.linux.kernel.locking.locks import Completion, LocalTryLock, Mutex, RwSem, SpinLock
from actors.linux.kernel.rcu.eager import EagerRcu
from actors.linux.kernel.rcu.tree import Rcu, rcu_core, rcu_gp_kthread
from actors.linux.kernel.smp import CallQueue, ipi_handler
from actors.linux.kernel.softirq import RCU_SOFTIRQ, TIMER_SOFTIRQ, Softirq, run_softirqs
from actors.linux.kernel.time.timer import TimerBase, run_timer_softirq, timer_interrupt
from actors.linux.kernel.workqueue import (
    UnboundPool,
    Work,
    WorkerPool,
    Workqueue,
    WorkTimers,
    run_timers,
    work_timer_interrupt,
)
from actors.linux.lib.idr import Ida
from actors.linux.mm.kmem_cache import CacheList, KmemCache, SlubFlushWork
from actors.linux.mm.kvfree_rcu import Krc
from actors.linux.mm.list_lru import ListLru
from actors.linux.mm.memcontrol import (
    Memcg,
    MemcgKmemCacheCreateWork,
    MemcgStock,
    StaticKey,
    Stock,
    mem_cgroup_alloc,
    memory_cgrp_subsys,
)
from actors.linux.mm.memory import TaskMapping
from actors.linux.mm.new_cache import new_root_cache
from actors.linux.mm.obj_cgroup import ObjCgroup, ObjStock, TaskObjcg, new_objcg
from actors.linux.mm.page_alloc import BuddyAllocator
from actors.linux.mm.slab import start_cpu_timer
from actors.linux.mm.slab_common import slab_caches_to_rcu_destroy_workfn
from actors.linux.mm.slub_sysfs import SlabKset, boot_kobject
from actors.linux.mm.swap import FolioBatches
from actors.linux.mm.vmscan import Shrinkers
from actors.linux.mm.vmstat import VmStats, flush_periodically
from actors.machine.bodies import begin, check_name
from actors.machine.context import Context
from actors.machine.object_books import ObjectBooks
from actors.system.actor import Actor
from actors.system.cpu import Cpu
from actors.system.flow import Kind
from actors.system.naming import Named
from actors.versions.kernel_fn import FunctionTable
from actors.versions.profiles import RSTAT_PER_CSS, STOCKS_WITH_SLOTS, WITHOUT_CHILD_CACHES
from protocol.errors import UsageError
from protocol.names import do_you_mean

if TYPE_CHECKING:
    from actors.linux.mm.mmzone import Lruvec
    from actors.machine.list_head import ListEntry
    from actors.system.world import World
    from actors.versions.patching import Patch
    from protocol.formats.slabinfo import SlabinfoRow


@functools.lru_cache(maxsize=32)
def function_table(kernel: str, allocator: str, patches: tuple[Patch, ...]) -> FunctionTable:
    """The function table of a kernel, made once for all machines that run it."""
    return FunctionTable(kernel, allocator, [patch.bodies for patch in patches])


@attrs.frozen(kw_only=True)
class Config:
    """Configuration of a machine: `kernel` profile, `allocator` (`slub` or `slab`), CPUs, NUMA nodes, cgroup version.

    `rcu` selects the grace periods: `batched` as in the kernel, or `eager`, one for each callback, for exact searches.
    `use_hierarchy` matters on cgroup v1 only: whether pages charged to a memcg are charged to its parent, too.
    """

    kernel: str
    allocator: str = "slub"
    cpus: int = 2
    nodes: int = 1
    cgroup: int = 2
    use_hierarchy: bool = True
    rcu: str = "batched"


@attrs.define(eq=False, init=False)
class Machine(Named):
    """A booted machine with its CPUs, its root cgroup and its root caches.

    Shadow accounting: `all_caches` has every kmem_cache whose struct is not freed, with the time it was made (ns);
    `child_caches` are the caches of cgroups among them, oldest first. `check_child` is called after each step that
    accessed a child cache made after it was set, `check_forgotten` before a struct is freed. From 6.12 on, `objcgs` has
    every obj_cgroup that is not released, without the root's, and `charged_tasks` every live task that may have one;
    `check_objcg` and `check_lruvec` are for them and for LRU lists what `check_child` is for
    caches. `freed_on_lists` has objects that were freed while on a
    list; `objects` has the user of each allocated object.

    `reaps` are the walks of cache_reap(): start and end (ns) and the number of caches visited. cache_reap() runs every
    two seconds while the machine `is_reaping`. Its timer is deferrable, so on an idle CPU it does not run.
    """

    world: World
    config: Config
    functions: FunctionTable
    lockdep: Lockdep
    cpus: tuple[Cpu, ...]
    slab_caches: CacheList
    slab_root_caches: CacheList
    slab_caches_to_rcu_destroy: CacheList
    all_caches: dict[KmemCache, int]
    _children: dict[KmemCache, None]
    _child_caches: tuple[KmemCache, ...] | None
    check_child: Callable[[KmemCache], None] | None
    check_forgotten: Callable[[KmemCache], None] | None
    objcgs: dict[ObjCgroup, None]
    check_objcg: Callable[[ObjCgroup], None] | None
    check_lruvec: Callable[[Lruvec], None] | None
    charged_tasks: dict[Context, None]
    pending_creations: dict[MemcgKmemCacheCreateWork, None]
    freed_on_lists: list[ListEntry]
    objects: ObjectBooks
    reaps: list[tuple[int, int, int]]
    is_reaping: bool
    memory_cgrp_subsys: CgroupSubsys
    slab_mutex: Mutex
    cgroup_mutex: Mutex
    percpu_charge_mutex: Mutex
    list_lrus_mutex: Mutex
    memcg_cache_ids_sem: RwSem
    mem_hotplug_lock: RwSem
    memcg_kmem_wq_lock: SpinLock
    percpu_ref_switch_lock: SpinLock
    css_set_lock: SpinLock
    cgroup_threadgroup_rwsem: RwSem
    objcg_lock: SpinLock
    softirqs: list[Softirq]
    timer_bases: list[TimerBase]
    rcu: Rcu
    buddy: BuddyAllocator
    cgroup_tree: CgroupTree
    rstat: RstatLocks
    memory_rstat: RstatSubsys
    memcg_cache_ida: Ida
    mem_cgroup_ids: Ida
    kmem_enabled: StaticKey
    memcg_nr_cache_ids: int
    list_lrus: list[ListLru]
    shrinkers: Shrinkers
    vfs: Vfs
    node_stats: list[VmStats]
    stocks: list[Stock]
    fbatches: list[FolioBatches]
    task_pages: TaskMapping
    memcg_stocks: list[MemcgStock]
    memcg_stock_locks: list[LocalTryLock]
    obj_stocks: list[ObjStock]
    obj_stock_locks: list[LocalTryLock]
    memcg_wq: Workqueue
    call_queues: list[CallQueue]
    worker_pools: list[WorkerPool]
    cgroup_offline_wq: Workqueue
    cgroup_release_wq: Workqueue
    cgroup_free_wq: Workqueue
    memcg_kmem_cache_wq: Workqueue
    system_wq: Workqueue
    unbound_pool: UnboundPool
    system_unbound_wq: Workqueue
    work_timers: list[WorkTimers]
    krc: Krc
    slub_flushwq: Workqueue
    flush_lock: Mutex
    slub_flush: tuple[SlubFlushWork, ...]
    slab_caches_to_rcu_destroy_work: Work
    slab_kset: SlabKset
    root_cgroup: Cgroup
    root_mem_cgroup: Memcg
    _css_serials: itertools.count[int]
    _slabs: itertools.count[int]
    _pids: itertools.count[int]

    def __init__(
        self, world: World, config: Config, *, rows: Iterable[SlabinfoRow] = (), patches: Iterable[Patch] = ()
    ) -> None:
        """Boot: CPUs with their handlers and kworkers, services, the root cgroup, a root cache for each row.

        *patches* are applied to the kernel profile in order; a later one replaces functions of an earlier one.
        """
        self.world = world
        self.config = config
        self.functions = function_table(config.kernel, config.allocator, tuple(patches))
        world.function_ids = self.functions.code_ids
        self.lockdep = Lockdep()
        self.cpus = tuple(Cpu.boot(world, number) for number in range(config.cpus))
        self.check_child, self.check_forgotten, self.check_objcg, self.check_lruvec = None, None, None, None
        self.objcgs, self.charged_tasks = {}, {}
        self._children, self._child_caches = {}, None
        self.all_caches, self.pending_creations, self.list_lrus, self.reaps = {}, {}, [], []
        self.freed_on_lists, self.objects = [], ObjectBooks()
        self.is_reaping = True
        self.memory_cgrp_subsys = memory_cgrp_subsys
        self._css_serials, self._slabs = itertools.count(2), itertools.count(1)
        self._pids = itertools.count(100)
        self._boot_locks()
        self._boot_services()
        self._boot_per_cpu()
        self._boot_kvfree()
        self._boot_root_cgroup()
        for row in rows:
            self._boot_cache(row)

    def _boot_locks(self) -> None:
        world = self.world
        self.slab_mutex = Mutex.boot(world, "slab_mutex")
        self.cgroup_mutex = Mutex.boot(world, "cgroup_mutex")
        self.percpu_charge_mutex = Mutex.boot(world, "percpu_charge_mutex")
        self.list_lrus_mutex = Mutex.boot(world, "list_lrus_mutex")
        self.memcg_cache_ids_sem = RwSem.boot(world, "memcg_cache_ids_sem")
        self.mem_hotplug_lock = RwSem.boot(world, "mem_hotplug_lock")
        self.memcg_kmem_wq_lock = SpinLock.boot(world, "memcg_kmem_wq_lock")
        self.percpu_ref_switch_lock = SpinLock.boot(world, "percpu_ref_switch_lock")
        self.objcg_lock = SpinLock.boot(world, "objcg_lock")
        self.rstat = RstatLocks.boot(world, len(self.cpus))

    def _boot_services(self) -> None:
        world, cpus = self.world, self.cpus
        self.softirqs = [Softirq(cpu.actor, cpu) for cpu in cpus]
        self.timer_bases = [TimerBase(softirq.actor, softirq) for softirq in self.softirqs]
        rcu = EagerRcu if self.config.rcu == "eager" else Rcu
        self.rcu = rcu.boot(Actor(world, "rcu"), self.softirqs)
        self.buddy = BuddyAllocator.boot(world)
        self.cgroup_tree = CgroupTree(Actor(world, "cgroup tree"), counts_populated=self.has_css_rstat)
        self.css_set_lock = SpinLock(self.cgroup_tree.actor, "css_set_lock")
        self.cgroup_threadgroup_rwsem = RwSem(self.cgroup_tree.actor, "cgroup_threadgroup_rwsem")
        self.memory_rstat = RstatSubsys.boot(self.cgroup_tree.actor, len(cpus))
        self.memcg_cache_ida = Ida(self.cgroup_tree.actor, "memcg_cache_ida")
        self.mem_cgroup_ids = Ida(self.cgroup_tree.actor, "mem_cgroup_ids", lowest=2)
        self.kmem_enabled = StaticKey(self.cgroup_tree.actor)
        self.memcg_nr_cache_ids = 0
        self.shrinkers, self.vfs = Shrinkers.boot(world), Vfs.boot(world)
        self.node_stats = [
            VmStats.alloc(self.buddy.actor, f"node {nid}", len(cpus)) for nid in range(self.config.nodes)
        ]
        pools = self.worker_pools = [WorkerPool(Actor(world, f"workqueue/{cpu.id}"), self, cpu) for cpu in cpus]
        self._boot_cgroup_queues(pools)
        self.memcg_kmem_cache_wq = Workqueue.alloc(pools, "memcg_kmem_cache", max_active=1)
        self.system_wq = Workqueue.alloc(pools, "events", max_active=256)
        slab_common = Actor(world, "slab_caches")
        self.slab_caches = CacheList(slab_common, "slab_caches")
        self.slab_root_caches = self.slab_caches  # from 6.12 on; without child caches, each cache is a root
        if not self.is_without_child_caches:
            self.slab_root_caches = CacheList(slab_common, "slab_root_caches")
        self.slab_caches_to_rcu_destroy = CacheList(slab_common, "slab_caches_to_rcu_destroy")
        self.slab_caches_to_rcu_destroy_work = Work(slab_common, self.slab_caches_to_rcu_destroy)
        self.slab_caches_to_rcu_destroy_work.init_work(slab_caches_to_rcu_destroy_workfn)
        self.slab_kset = SlabKset(slab_common, self)
        self.slub_flushwq = Workqueue.alloc(pools, "slub_flushwq", max_active=256)
        self.flush_lock = Mutex(slab_common, "flush_lock")
        self.slub_flush = tuple(SlubFlushWork(pool.actor, pool.cpu.id) for pool in pools)

    def _boot_cgroup_queues(self, pools: list[WorkerPool]) -> None:
        """Before 6.12 one queue has all works of a css, which wait for one another there; KERNEL-today 2.4."""
        if self.is_without_child_caches:
            self.cgroup_offline_wq = Workqueue.alloc(pools, "cgroup_offline", max_active=1)
            self.cgroup_release_wq = Workqueue.alloc(pools, "cgroup_release", max_active=1)
            self.cgroup_free_wq = Workqueue.alloc(pools, "cgroup_free", max_active=1)
        else:
            self.cgroup_offline_wq = Workqueue.alloc(pools, "cgroup_destroy", max_active=1)
            self.cgroup_release_wq = self.cgroup_free_wq = self.cgroup_offline_wq

    def _boot_per_cpu(self) -> None:
        self._boot_stocks()
        self.fbatches = [FolioBatches(cpu.actor, cpu.id) for cpu in self.cpus]
        self.task_pages = TaskMapping(self.buddy.actor)
        self.call_queues = [CallQueue(cpu.actor, cpu) for cpu in self.cpus]
        for cpu in self.cpus:
            self._boot_cpu(cpu)
        if self.config.rcu == "batched":
            gp = Context(self.world, "rcu_gp", Kind.KTHREAD, machine=self)
            self.world.spawn(gp, rcu_gp_kthread(gp))

    def _boot_stocks(self) -> None:
        """One stock for each CPU; from 7.2 on there are two instead, with works on a queue of their own."""
        has_slots = self.config.kernel in STOCKS_WITH_SLOTS
        self.stocks = [] if has_slots else [Stock(cpu.actor, cpu.id) for cpu in self.cpus]
        self.memcg_stocks = [MemcgStock(cpu.actor, cpu.id) for cpu in self.cpus] if has_slots else []
        self.obj_stocks = [ObjStock(cpu.actor, cpu.id) for cpu in self.cpus] if has_slots else []
        self.memcg_stock_locks = [stock.lock for stock in self.memcg_stocks]
        self.obj_stock_locks = [stock.lock for stock in self.obj_stocks]
        self.memcg_wq = Workqueue.alloc(self.worker_pools if has_slots else [], "memcg", max_active=1024)

    def _boot_cpu(self, cpu: Cpu) -> None:
        calls, softirq, timers = self.call_queues[cpu.id], self.softirqs[cpu.id], self.timer_bases[cpu.id]
        rdp = self.rcu.per_cpu[cpu.id]
        softirq.actions[RCU_SOFTIRQ] = lambda ctx: rcu_core(ctx, rdp)
        softirq.actions[TIMER_SOFTIRQ] = lambda ctx: run_timer_softirq(ctx, timers)
        cpu.hardirq = irq = Context(self.world, f"hi/{cpu.id}", Kind.HARDIRQ, cpu, machine=self)
        cpu.softirq = handler = Context(self.world, f"si/{cpu.id}", Kind.SOFTIRQ, cpu, machine=self)
        if self.config.allocator == "slab":
            start_cpu_timer(self, cpu.id)
        clock = Context(self.world, f"timer/{cpu.id}", Kind.KTHREAD, machine=self)
        self.world.spawn(irq, ipi_handler(irq, calls))
        self.world.spawn(handler, run_softirqs(handler, softirq))
        self.world.spawn(clock, timer_interrupt(clock, timers))
        self.worker_pools[cpu.id].spawn_worker()

    def _boot_kvfree(self) -> None:
        """The unbound queues, the timers that quiescence waits for, and kfree_rcu(), which run from 6.12 on."""
        pool = self.unbound_pool = UnboundPool(Actor(self.world, "workqueue/unbound"), self, self.cpus[0])
        self.system_unbound_wq = Workqueue.alloc_unbound(pool, "events_unbound", max_active=256)
        self.work_timers = [WorkTimers(softirq.actor, softirq) for softirq in self.softirqs]
        self.krc = Krc.boot(self, Workqueue.alloc_unbound(pool, "kvfree_rcu_reclaim", max_active=256))
        if not self.is_without_child_caches:
            return
        pool.spawn_worker()
        for cpu, base, old in zip(self.cpus, self.work_timers, self.timer_bases, strict=True):
            self.softirqs[cpu.id].actions[TIMER_SOFTIRQ] = functools.partial(run_timers, bases=(base, old))
            clock = Context(self.world, f"work-timer/{cpu.id}", Kind.KTHREAD, machine=self)
            self.world.spawn(clock, work_timer_interrupt(clock, base))

    def _boot_root_cgroup(self) -> None:
        """Make the root cgroup, which is never removed and whose references are not counted (CSS_NO_REF)."""
        root = self.root_cgroup = Cgroup(Actor(self.world, "cgroup /"), "/", 1, None)
        root.self_css = Css(root.actor, "self css of /", root, None, flags=CssFlags.ONLINE)
        root.css = Css(root.actor, "css of /", root, None, flags=CssFlags.ONLINE, online_cnt=1, id=1)
        root.has_css = True
        root.css.memcg = self.root_mem_cgroup = mem_cgroup_alloc(self, root.css, None)
        self.root_mem_cgroup.is_root = True
        if self.root_mem_cgroup.has_objcg_per_node:
            for node in self.root_mem_cgroup.nodeinfo:
                node.objcg = new_objcg(self, self.root_mem_cgroup, node.nid)
        if self.is_without_child_caches:
            self._boot_rstat(root)

    def _boot_rstat(self, root: Cgroup) -> None:
        """Make the statistics of the root, and the thread that flushes those of all cgroups."""
        if self.has_css_rstat:
            root.css.rstat = self.memory_rstat.root = CssRstat(root.actor, root.css, None)
        else:
            root.rstat = CgroupRstat(root.actor, root, None)
            root.rstat.csses = (root.css,)
        root.css.stats = MemcgStats.alloc(root.actor, "/", None, len(self.cpus))
        flusher = Context(self.world, "stats_flush", Kind.KTHREAD, machine=self)
        self.world.spawn(flusher, flush_periodically(flusher))

    @property
    def has_css_rstat(self) -> bool:
        """Whether statistics belong to a css, and a task leaves its cgroup at its last context switch."""
        return self.config.kernel in RSTAT_PER_CSS

    @property
    def is_without_child_caches(self) -> bool:
        """Whether there is one set of caches, as from 6.12 on; then there are rstat and its queues, too."""
        return self.config.kernel in WITHOUT_CHILD_CACHES

    @property
    def slab_supports_sysfs(self) -> bool:
        """SLAB_SUPPORTS_SYSFS: true for SLUB only."""
        return self.config.allocator == "slub"

    @property
    def child_caches(self) -> tuple[KmemCache, ...]:
        """The caches of cgroups in `all_caches`, oldest first."""
        if self._child_caches is None:
            self._child_caches = tuple(self._children)
        return self._child_caches

    # -- caches -------------------------------------------------------------------------------------------------------

    def _boot_cache(self, row: SlabinfoRow) -> None:
        """Make a root cache of the booted machine."""
        cache = new_root_cache(self, row, flags_of(row.name), has_ctor=has_ctor(row.name))
        cache.has_usercopy, cache.is_mergeable = has_usercopy(row.name), not is_exempt(row.name)
        if self.slab_supports_sysfs:
            boot_kobject(self, cache)
        self.slab_caches.add(cache)
        if self.slab_root_caches is not self.slab_caches:
            self.slab_root_caches.add(cache)

    def add_cache(self, cache: KmemCache) -> None:
        """Add a new cache to `all_caches`; install `check_child` on a child."""
        self.all_caches[cache] = self.world.now
        if cache.root_cache is not None:
            self._children[cache], self._child_caches = None, None
            if self.check_child is not None:
                cache.actor.check = types.MethodType(self.check_child, cache)  # a third of the size of a partial()

    def forget_cache(self, cache: KmemCache) -> None:
        """Remove a cache whose struct is being freed."""
        if self.check_forgotten is not None:
            self.check_forgotten(cache)
        self.all_caches.pop(cache, None)
        self._children.pop(cache, None)
        self._child_caches = None

    def add_objcg(self, objcg: ObjCgroup) -> None:
        """Add a new obj_cgroup to `objcgs`; install `check_objcg` on it."""
        self.objcgs[objcg] = None
        if self.check_objcg is not None:
            objcg.actor.check = types.MethodType(self.check_objcg, objcg)

    def next_slab_serial(self) -> int:
        return next(self._slabs)

    # -- lookups and numbers ------------------------------------------------------------------------------------------

    def node_of_cpu(self, cpu: int) -> int:
        """cpu_to_node(): the CPUs are distributed evenly over the nodes."""
        return cpu * self.config.nodes // len(self.cpus)

    def root_cache(self, name: str) -> KmemCache:
        """The root cache of that name; UsageError if the machine has none."""
        for cache in self.all_caches:
            if cache.name == name:
                return cache
        near = do_you_mean(name, (cache.name for cache in self.all_caches))
        msg = f"slabinfo: there is no row {name!r}, and this machine needs it; take a capture that has one{near}"
        raise UsageError(msg)

    def memcgs(self) -> list[Memcg]:
        """Every memcg that is not freed, except the root's."""
        memcgs = (cgroup.css.memcg for cgroup in self.root_cgroup.descendants() if cgroup.has_css)
        return [memcg for memcg in memcgs if memcg is not None and memcg.freed is None]

    def next_css_serial(self) -> int:
        return next(self._css_serials)

    def next_pid(self) -> int:
        """The next process number, for tasks without a name."""
        return next(self._pids)

    # -- tasks --------------------------------------------------------------------------------------------------------

    def new_task(self, name: str, cpu: int, *, migrates: bool = False) -> Context:
        """Create a task on *cpu*, in the root cgroup; if it *migrates*, it may be woken on any CPU."""
        check_name("task", name)
        cpus = self.cpus if migrates else (self.cpus[cpu],)
        task = Context(self.world, name, Kind.TASK, self.cpus[cpu], machine=self, has_mm=True, cpus_allowed=cpus)
        if self.config.kernel in WITHOUT_CHILD_CACHES:
            task.objcg = TaskObjcg(self.cgroup_tree.actor, name)
            self.charged_tasks[task] = None
        return task

    def start(self, task: Context, body: Callable[[Context], Awaitable[None]], done: Completion | None = None) -> None:
        """Let *task* run *body*, then exit and complete *done*."""

        async def live() -> None:
            await task.begin()
            if self.is_without_child_caches:  # before, no controller wants to know
                await cgroup_post_fork(task, task)
            await begin(body, task)
            task.parent_waits = done
            await do_exit(task)
            self.charged_tasks.pop(task, None)
            if task.parent_waits is not None:
                await task.ask(task.parent_waits.complete)

        self.world.spawn(task, live())
