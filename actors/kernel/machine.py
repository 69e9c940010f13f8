"""The machine: everything the kernel keeps in globals, booted for one run."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

import attrs

from actors.kernel.cgroup import Cgroup, CgroupSubsys, CgroupTree, Css, cgroup_exit
from actors.kernel.context import Context
from actors.kernel.kernel_fn import FunctionTable
from actors.kernel.locks import Mutex, SpinLock
from actors.kernel.memcontrol import Memcg, Stock
from actors.kernel.memcontrol_kmem import Ida, memory_cgrp_subsys
from actors.kernel.page_alloc import BuddyAllocator
from actors.kernel.rcu import Rcu, RcuData, rcu_core, rcu_gp_kthread
from actors.kernel.slab import KmemCache, KmemCacheCpu, MemcgCacheArray, SlabFlags, make_cache
from actors.kernel.slab_common import slab_caches_to_rcu_destroy_workfn
from actors.kernel.smp import CallQueue, ipi_handler
from actors.kernel.workqueue import Work, WorkerPool, Workqueue
from actors.system.actor import Actor, Shared
from actors.system.cpu import Cpu
from actors.system.flow import Kind
from protocol.errors import UsageError
from protocol.operations import ATOMIC_NS, READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.system.world import World
    from protocol.slabinfo import SlabinfoRow

ACCOUNTED = frozenset(
    [
        "anon_vma",
        "anon_vma_chain",
        "bdev_cache",
        "cred_jar",
        "dentry",
        "eventpoll_epi",
        "eventpoll_pwq",
        "ext4_inode_cache",
        "fat_inode_cache",
        "files_cache",
        "filp",
        "fs_cache",
        "fuse_inode",
        "inode_cache",
        "mm_struct",
        "mqueue_inode_cache",
        "net_namespace",
        "pid",
        "proc_inode_cache",
        "seq_file",
        "shmem_inode_cache",
        "sighand_cache",
        "signal_cache",
        "sock_inode_cache",
        "task_struct",
        "vm_area_struct",
        "xfs_inode",
    ]
)
"""Caches created with SLAB_ACCOUNT (KERNEL.md 12.4); /proc/slabinfo does not say."""

TYPESAFE = frozenset({"anon_vma", "sighand_cache"})
"""Caches created with SLAB_TYPESAFE_BY_RCU (KERNEL.md 12.4)."""


@attrs.define(eq=False)
class StaticKey(Shared):
    """memcg_kmem_enabled_key: one for each kmem memcg that is allocated."""

    usage: int = attrs.field(default=0, init=False)

    @property
    def label(self) -> str:
        return "memcg_kmem_enabled_key"

    @operation(READ, cost=ATOMIC_NS)
    def is_enabled(self) -> bool:
        """memcg_kmem_enabled()."""
        return self.usage > 0

    @operation(UPDATE)
    def add(self, nr: int) -> None:
        self.usage += nr


@attrs.frozen
class FileCaches:
    """The root caches that an open file takes objects from."""

    filp: KmemCache
    dentry: KmemCache
    inode: KmemCache


@attrs.define(eq=False, init=False)
class Machine:
    """A booted machine of one kernel profile, with its CPUs, its root cgroup and its root caches.

    The lists `slab_caches` and `slab_root_caches` are protected by slab_mutex, and read by whoever holds it.
    """

    world: World
    profile: str
    functions: FunctionTable
    cpus: tuple[Cpu, ...]
    slab_caches: dict[KmemCache, None]
    slab_root_caches: dict[KmemCache, None]
    slab_caches_to_rcu_destroy: list[KmemCache]
    memory_cgrp_subsys: CgroupSubsys
    slab_mutex: Mutex
    cgroup_mutex: Mutex
    percpu_charge_mutex: Mutex
    memcg_kmem_wq_lock: SpinLock
    percpu_ref_switch_lock: SpinLock
    rcu: Rcu
    buddy: BuddyAllocator
    cgroup_tree: CgroupTree
    memcg_cache_ida: Ida
    kmem_enabled: StaticKey
    memcg_nr_cache_ids: int
    stocks: list[Stock]
    call_queues: list[CallQueue]
    worker_pools: list[WorkerPool]
    cgroup_destroy_wq: Workqueue
    memcg_kmem_cache_wq: Workqueue
    system_wq: Workqueue
    slab_caches_to_rcu_destroy_work: Work
    root_cgroup: Cgroup
    root_mem_cgroup: Memcg
    file_caches: FileCaches
    _css_serials: itertools.count[int]
    _slabs: itertools.count[int]

    def __init__(self, world: World, profile: str, *, cpus: int, rows: Iterable[SlabinfoRow]) -> None:
        """Boot: CPUs with their handlers and kworkers, services, the root cgroup, a root cache for each row."""
        self.world = world
        self.profile = profile
        self.functions = FunctionTable(profile)
        self.cpus = tuple(Cpu.boot(world, number) for number in range(cpus))
        self.slab_caches, self.slab_root_caches = {}, {}
        self.slab_caches_to_rcu_destroy = []
        self.memory_cgrp_subsys = memory_cgrp_subsys
        self._css_serials, self._slabs = itertools.count(2), itertools.count(1)
        self._boot_locks()
        self._boot_services()
        self._boot_per_cpu()
        self._boot_root_cgroup()
        for row in rows:
            self.new_root_cache(row)
        self.file_caches = FileCaches(*(self.root_cache(name) for name in ("filp", "dentry", "shmem_inode_cache")))

    def _boot_locks(self) -> None:
        world = self.world
        self.slab_mutex = Mutex.boot(world, "slab_mutex")
        self.cgroup_mutex = Mutex.boot(world, "cgroup_mutex")
        self.percpu_charge_mutex = Mutex.boot(world, "percpu_charge_mutex")
        self.memcg_kmem_wq_lock = SpinLock(Actor(world, "memcg_kmem_wq_lock"), "memcg_kmem_wq_lock")
        self.percpu_ref_switch_lock = SpinLock(Actor(world, "percpu_ref_switch_lock"), "percpu_ref_switch_lock")

    def _boot_services(self) -> None:
        world = self.world
        self.rcu = Rcu.boot(Actor(world, "rcu"), self.cpus)
        self.buddy = BuddyAllocator.boot(world)
        self.cgroup_tree = CgroupTree(Actor(world, "cgroup tree"))
        self.memcg_cache_ida = Ida(self.cgroup_tree.actor)
        self.kmem_enabled = StaticKey(self.cgroup_tree.actor)
        self.memcg_nr_cache_ids = 0
        pools = self.worker_pools = [WorkerPool(Actor(world, f"workqueue/{cpu.id}"), self, cpu) for cpu in self.cpus]
        self.cgroup_destroy_wq = Workqueue.alloc(pools, "cgroup_destroy", max_active=1)
        self.memcg_kmem_cache_wq = Workqueue.alloc(pools, "memcg_kmem_cache", max_active=1)
        self.system_wq = Workqueue.alloc(pools, "events", max_active=256)
        self.slab_caches_to_rcu_destroy_work = Work(self.rcu.actor, self.buddy)
        self.slab_caches_to_rcu_destroy_work.init_work(slab_caches_to_rcu_destroy_workfn)

    def _boot_per_cpu(self) -> None:
        self.stocks = [Stock(cpu.actor, cpu.id) for cpu in self.cpus]
        self.call_queues = [CallQueue(cpu.actor, cpu) for cpu in self.cpus]
        for cpu, rdp, calls in zip(self.cpus, self.rcu.per_cpu, self.call_queues, strict=True):
            self._boot_cpu(cpu, rdp, calls)
        gp = Context(self.world, "rcu_gp", Kind.KTHREAD, machine=self)
        self.world.spawn(gp, rcu_gp_kthread(gp))

    def _boot_cpu(self, cpu: Cpu, rdp: RcuData, calls: CallQueue) -> None:
        cpu.hardirq = irq = Context(self.world, f"hi/{cpu.id}", Kind.HARDIRQ, cpu, machine=self)
        cpu.softirq = softirq = Context(self.world, f"si/{cpu.id}", Kind.SOFTIRQ, cpu, machine=self)
        self.world.spawn(irq, ipi_handler(irq, calls))
        self.world.spawn(softirq, rcu_core(softirq, rdp))
        self.worker_pools[cpu.id].spawn_worker()

    def _boot_root_cgroup(self) -> None:
        """The root is never removed, and its references are not counted (CSS_NO_REF)."""
        root = self.root_cgroup = Cgroup(Actor(self.world, "cgroup /"), "/", 1, None)
        root.self_css = Css(root.actor, "self css of /", root, None, is_online=True)
        root.css = Css(root.actor, "css of /", root, None, is_online=True, online_cnt=1)
        root.css.memcg = self.root_mem_cgroup = Memcg.alloc(root.actor, "/", root.css, None)

    # -- caches ---------------------------------------------------------------------------------------------------

    def new_root_cache(self, row: SlabinfoRow) -> KmemCache:
        """Create the root cache that one row of /proc/slabinfo describes."""
        flags = SlabFlags.ACCOUNT if row.name in ACCOUNTED else SlabFlags.NONE
        if row.name in TYPESAFE:
            flags |= SlabFlags.TYPESAFE_BY_RCU
        order = (row.pagesperslab - 1).bit_length()
        cache = self.new_cache(row.name, size=row.objsize, objects=row.objperslab, order=order, flags=flags, root=None)
        cache.memcg_caches = MemcgCacheArray(cache.actor, cache, [None] * self.memcg_nr_cache_ids)
        self.slab_caches[cache] = self.slab_root_caches[cache] = None
        return cache

    def new_cache(
        self, name: str, *, size: int, objects: int, order: int, flags: SlabFlags, root: KmemCache | None
    ) -> KmemCache:
        """Allocate a kmem_cache with its per-CPU parts, as an actor; it is on no list yet."""
        actor = Actor(self.world, f"kmem_cache {name}")
        cache = make_cache(actor, name, size=size, objects=objects, order=order, flags=flags, root=root)
        cache.cpu_slab = [KmemCacheCpu(cpu.actor, cache, tid=cpu.id) for cpu in self.cpus]
        return cache

    def root_cache(self, name: str) -> KmemCache:
        """The root cache of that name; UsageError if the machine has none."""
        for cache in self.slab_root_caches:
            if cache.name == name:
                return cache
        msg = f"slabinfo: there is no row {name!r}, and every machine here needs it; take a capture that has one"
        raise UsageError(msg)

    @property
    def child_caches(self) -> list[KmemCache]:
        """Every child cache that exists, oldest first."""
        return [cache for cache in self.slab_caches if not cache.is_root_cache]

    def memcgs(self) -> list[Memcg]:
        """Every memcg that is not freed, but for the root's."""
        memcgs = (cgroup.css.memcg for cgroup in self.root_cgroup.descendants())
        return [memcg for memcg in memcgs if memcg is not None and memcg.freed is None]

    # -- numbers and flows ----------------------------------------------------------------------------------------

    def next_css_serial(self) -> int:
        return next(self._css_serials)

    def next_slab(self) -> int:
        return next(self._slabs)

    def new_task(self, name: str, cpu: int, *, migrates: bool = False) -> Context:
        """Create a task on *cpu*, in the root cgroup; it may be woken on any CPU if it *migrates*."""
        cpus = self.cpus if migrates else (self.cpus[cpu],)
        return Context(self.world, name, Kind.TASK, self.cpus[cpu], machine=self, has_mm=True, cpus_allowed=cpus)

    def start(self, task: Context, body: Callable[[Context], Awaitable[None]]) -> None:
        """Let *task* run *body*, then exit."""

        async def live() -> None:
            await body(task)
            await cgroup_exit(task)

        self.world.spawn(task, live())
