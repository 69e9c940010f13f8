"""The import paths of kernel modules until 0.2, kept for patches and scenarios that were written for it.

`from actors.kernel.rcu import call_rcu` finds `call_rcu` in its present module. New code imports from `actors.api`, or
from the module itself (docs/architecture.md).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

ROOMS = ("versions", "machine", "linux", "fixes", "files", "oracles")

MODULES = frozenset(
    """
    boot_caches cgroup cgroup_files cgroup_tree context css_children dcache dcache_walk dentry drop_caches errno
    ext4 filemap fixes flags fs_writeback gfp idr inode invariants kernel_files kernel_fn kernfs kernfs_node
    kmem_cache lifecycle_invariants list_head list_lru lockdep lockless locks lru_invariants machine
    memcg_invariants memcontrol memcontrol_kmem namei object_books onlooker page_alloc page_counter patch_rules
    patching percpu_ref proc_page rcu rcu_eager read_write sched seq_file shmem slab slab_bulk slab_common
    slab_create slab_def slab_destroy slab_h slab_hooks slab_merge slab_mutex slab_reap slabinfo slabinfo_full slub
    slub_alloc smp softirq super sysfs vfs_invariants vmscan vmstat workqueue
    """.split()  # noqa: SIM905 -- 67 names
)

MISSING = object()


def modules() -> Iterable[ModuleType]:
    """Every module of the packages into which the old package was divided."""
    for room in ROOMS:
        package = import_module(f"actors.{room}")
        yield package
        for module in walk_packages(getattr(package, "__path__", ()), f"{package.__name__}."):
            yield import_module(module.name)


class OldModule(ModuleType):
    """A module of 0.2, whose names are looked up in the present modules that define them."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") or not name.endswith("__"):
            own = self.__name__.rpartition(".")[2]
            nearest = sorted(modules(), key=lambda module: not module.__name__.rpartition(".")[2].startswith(own))
            for module in nearest:  # two files may have constants of one name
                value = vars(module).get(name, MISSING)
                if value is not MISSING and not isinstance(value, ModuleType):  # a package has its modules as names
                    return value
        msg = f"module {self.__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)


class Finder(MetaPathFinder, Loader):
    """Finds the modules of 0.2 by name."""

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> ModuleSpec | None:
        """The specification of an old module; None for any other name."""
        package, _, module = name.rpartition(".")
        return ModuleSpec(name, self) if package == __name__ and module in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module object, which needs no execution."""
        return OldModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is executed: names are looked up at access."""


sys.meta_path.append(Finder())
