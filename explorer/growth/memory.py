"""The memory that a simulated machine would take with the CPUs of a production host.

The model counts its pages, but not the structures that its actors stand for. They are counted here, with the sizes of
KERNEL.md 12.3 (x86-64). The machine is simulated with few CPUs, which does not change the dying cgroups. Most of a
memcg, however, is per-CPU memory, so the number of CPUs matters here. Things without a size in 12.3 are left out:
struct cgroup, rstat and psi, sysfs directories, and the fragmentation of allocators. The same things are left out on
6.12 and 7.2, whose sizes are those of KERNEL-today 22 and of KERNEL-7.2, section 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.linux.lib.percpu_refcount import PercpuRef
from actors.linux.mm.slab_def import array_limit
from actors.versions.profiles import OBJCG_PER_NODE, WITHOUT_CHILD_CACHES
from protocol.formats.slabinfo import PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from actors.linux.init.machine import Machine
    from actors.linux.mm.kmem_cache import KmemCache

HOST_CPUS = 32
"""The CPUs of the machine of KERNEL.md 12.2, on one node; the cover letters do not give the production hosts' CPUs."""

COUNTER = 8
MEMCG_STATS, VM_EVENTS, MEMCG_EVENTS, NODE_STATS = 36, 95, 4, 30
MEMCG_PERCPU = 2 * (MEMCG_STATS + VM_EVENTS + MEMCG_EVENTS) * COUNTER
"""struct memcg_vmstats_percpu, twice: hierarchical, and local."""

MEMCG_NODE_PERCPU = 2 * NODE_STATS * COUNTER
"""struct lruvec_stat, twice, for each node."""

PERCPU_REF = 8
MEMCG_STRUCT, MEMCG_NODE_STRUCT = 4096, 1024
"""struct mem_cgroup and mem_cgroup_per_node, rounded up to kmalloc sizes."""

CACHE_STRUCT, CACHE_NAME, CACHE_NODE_STRUCT, KMEM_CACHE_CPU = 448, 32, 64, 32
ARRAY_CACHE = 16


MEMCG_STRUCTS_6_12 = 2048 + 2048 + 2 * 64
"""[6.12] struct mem_cgroup, its memcg_vmstats, and the data of two percpu_refs: the css's and the cgroup's."""

MEMCG_NODE_STRUCTS_6_12 = 2048 + 1024 + 1024 + 32
"""[6.12] For each node: mem_cgroup_per_node, lruvec_stats, and the shrinkers' bits."""

MEMCG_PERCPU_6_12, MEMCG_NODE_PERCPU_6_12 = 1088, 496
"""[6.12] struct memcg_vmstats_percpu, and lruvec_stats_percpu for each node."""

OBJCG_STRUCTS = 2 * 64
"""[6.12] struct obj_cgroup and its percpu_ref_data; there is a percpu_ref on each CPU, too."""

MEMCG_STRUCTS_7_2 = 1728 + 2048 + 2 * 64
"""[7.2] struct mem_cgroup, from a cache of its own (for up to 8 nodes), its memcg_vmstats, and two percpu_ref_data."""

MEMCG_NODE_STRUCTS_7_2 = 1920 + 2048 + 1024 + 32
"""[7.2] For each node: mem_cgroup_per_node, from a cache of its own, lruvec_stats, and the shrinkers' bits."""

MEMCG_PERCPU_7_2, MEMCG_NODE_PERCPU_7_2 = 1216, 752
"""[7.2] struct memcg_vmstats_percpu, and lruvec_stats_percpu for each node."""


def machine_bytes(machine: Machine, cpus: int = HOST_CPUS) -> int:
    """The bytes of memcgs and what belongs to them, dead or alive, on *cpus* CPUs, and of all allocated pages."""
    memcgs, nodes = sum(1 for _ in _memcgs(machine)), machine.config.nodes
    pages = machine.buddy.allocated * PAGE_SIZE
    if machine.config.kernel in WITHOUT_CHILD_CACHES:
        of_memcg = memcg_bytes_7_2 if machine.config.kernel in OBJCG_PER_NODE else memcg_bytes_6_12
        return memcgs * of_memcg(nodes, cpus) + len(machine.objcgs) * objcg_bytes(cpus) + pages
    caches = sum(cache_bytes(cache, machine, cpus) for cache in machine.child_caches)
    return memcgs * memcg_bytes(nodes, cpus) + caches + pages


def _memcgs(machine: Machine) -> Iterator[object]:
    return (cgroup for cgroup in machine.root_cgroup.descendants() if cgroup.has_css)


def memcg_bytes(nodes: int, cpus: int) -> int:
    """The bytes of a memcg, with its statistics and the reference counts of its css and its cgroup."""
    percpu = MEMCG_PERCPU + nodes * MEMCG_NODE_PERCPU + 2 * PERCPU_REF
    return MEMCG_STRUCT + nodes * MEMCG_NODE_STRUCT + cpus * percpu


def memcg_bytes_6_12(nodes: int, cpus: int) -> int:
    """[6.12] The same. Its obj_cgroup is not in it, for that may outlive it."""
    percpu = MEMCG_PERCPU_6_12 + nodes * MEMCG_NODE_PERCPU_6_12 + 2 * PERCPU_REF
    return MEMCG_STRUCTS_6_12 + nodes * MEMCG_NODE_STRUCTS_6_12 + cpus * percpu


def memcg_bytes_7_2(nodes: int, cpus: int) -> int:
    """[7.2] The same, without its obj_cgroups, one for each node."""
    percpu = MEMCG_PERCPU_7_2 + nodes * MEMCG_NODE_PERCPU_7_2 + 2 * PERCPU_REF
    return MEMCG_STRUCTS_7_2 + nodes * MEMCG_NODE_STRUCTS_7_2 + cpus * percpu


def objcg_bytes(cpus: int) -> int:
    """[6.12, 7.2] The bytes of an obj_cgroup."""
    return OBJCG_STRUCTS + cpus * PERCPU_REF


def cache_bytes(cache: KmemCache, machine: Machine, cpus: int) -> int:
    """The bytes of a child cache without its slabs: the struct, its name, and its parts for each node and CPU."""
    fixed = CACHE_STRUCT + CACHE_NAME + machine.config.nodes * CACHE_NODE_STRUCT
    if machine.config.allocator == "slub":
        percpu = KMEM_CACHE_CPU
    else:
        percpu = ARRAY_CACHE + array_limit(cache.object_size) * COUNTER
    if isinstance(cache.refcnt, PercpuRef) and cache.refcnt.percpu is not None:
        percpu += PERCPU_REF
    return fixed + cpus * percpu
