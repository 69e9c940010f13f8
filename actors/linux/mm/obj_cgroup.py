"""obj_cgroup: whom an object is charged to, beyond the life of its memcg. mm/memcontrol.c @6.12; KERNEL-today 5 to 9.

A task charges its objects to the obj_cgroup of its memcg. Each object holds a reference to it. Removal of the memcg
gives the obj_cgroup to the parent: it changes one pointer, whatever the number of objects, and the memcg goes. A CPU
keeps the rest of a charged page in its stock, for the next objects of the same obj_cgroup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.lib.percpu_refcount import PercpuRef
from actors.machine.list_head import ListEntry
from actors.system.actor import Shared
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.mm.memcontrol import Memcg

PAGE_SIZE = 4096
OBJ_EXT_SIZE = 8
"""Bytes that each accounted object costs beside its own: the pointer to its obj_cgroup."""


@attrs.define(eq=False)
class ObjCgroup(ListEntry):
    """struct obj_cgroup, made for a memcg. `memcg` is that one until its removal, then an ancestor; no reference.

    `nr_charged_bytes` are bytes that were charged in whole pages, and that no object and no stock has now.
    """

    name: str
    memcg: Memcg
    refcnt: PercpuRef = attrs.field(init=False)
    nr_charged_bytes: int = attrs.field(default=0, init=False)

    @property
    def label(self) -> str:
        return f"obj_cgroup of {self.name}"

    @operation(READ, part="memcg")
    def read_memcg(self) -> Memcg:
        return self.memcg

    @operation(UPDATE, part="memcg", lifecycle=True)
    def set_memcg(self, memcg: Memcg) -> None:
        self.memcg = memcg

    @operation(READ, part="bytes")
    def read_charged_bytes(self) -> int:
        return self.nr_charged_bytes

    @operation(UPDATE, part="bytes")
    def add_charged_bytes(self, nr: int) -> int:
        """atomic_add_return()."""
        self.nr_charged_bytes += nr
        return self.nr_charged_bytes

    @operation(UPDATE, part="bytes")
    def take_charged_bytes(self) -> int:
        """atomic_xchg(&objcg->nr_charged_bytes, 0)."""
        taken, self.nr_charged_bytes = self.nr_charged_bytes, 0
        return taken


@attrs.define(eq=False)
class TaskObjcg(Shared):
    """task->objcg of `task`: the obj_cgroup it charges to, with a reference. `is_stale` is bit 0 of the pointer.

    Whoever moves the task sets the bit; the task itself looks the obj_cgroup up again at its next allocation.
    """

    task: str
    objcg: ObjCgroup | None = attrs.field(default=None, init=False)
    is_stale: bool = attrs.field(default=False, init=False)

    @property
    def label(self) -> str:
        return f"objcg of task {self.task}"

    @operation(READ)
    def read(self) -> tuple[ObjCgroup | None, bool]:
        return self.objcg, self.is_stale

    @operation(UPDATE, lifecycle=True)
    def set_stale(self) -> None:
        """set_bit(CURRENT_OBJCG_UPDATE_BIT, &task->objcg)."""
        self.is_stale = True

    @operation(UPDATE, lifecycle=True)
    def xchg_null(self) -> ObjCgroup | None:
        """xchg(&current->objcg, NULL): also clears the bit."""
        old, self.objcg, self.is_stale = self.objcg, None, False
        return old

    @operation(UPDATE, lifecycle=True)
    def cmpxchg_null(self, objcg: ObjCgroup | None) -> bool:
        """try_cmpxchg(&current->objcg, NULL, objcg): fails if the bit was set meanwhile."""
        if self.objcg is not None or self.is_stale:
            return False
        self.objcg = objcg
        return True
