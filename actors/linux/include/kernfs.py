"""Directories of sysfs and of cgroup2, and the wait for their readers at removal. fs/kernfs @5.3.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.machine.context import Context
from actors.system.actor import Shared
from actors.versions.kernel_fn import extern
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.fs.super import SuperBlock
    from actors.linux.kernel.cgroup.cgroup import Cgroup
    from actors.system.flow import Flow


@attrs.define(eq=False)
class KernfsNode(Shared):
    """struct kernfs_node of a directory called `name`: `active` are the readers inside one of its files.

    After `is_removed` is set, readers cannot enter its files; the removal waits for the readers inside. `lock_class`
    is lockdep's class for being inside and for that wait. The node outlives the object that it shows: an open file
    pins the node.
    """

    name: str
    lock_class: str
    is_removed: bool = attrs.field(default=False, init=False)
    active: tuple[Context, ...] = attrs.field(default=(), init=False)

    @property
    def label(self) -> str:
        return f"kernfs_node {self.name}"

    @property
    def held_by(self) -> str:
        return f", held by {', '.join(ctx.name for ctx in self.active)}" if self.active else ""

    def blockers(self, _flow: Flow) -> tuple[Flow, ...]:
        return self.active

    @operation(UPDATE)
    def kernfs_get_active(self, ctx: Context) -> bool:
        """Enter a file; False (-ENODEV) if the directory is being removed."""
        if not self.is_removed:
            self.active += (ctx,)
        return not self.is_removed

    @operation(UPDATE)
    def kernfs_put_active(self, ctx: Context) -> None:
        self.active = tuple(reader for reader in self.active if reader is not ctx)

    @operation(UPDATE)
    def deactivate(self) -> None:
        """Let no reader enter any more."""
        self.is_removed = True

    def is_drained(self) -> bool:
        return not self.active

    @operation(READ, when=is_drained, sleeps=True)
    def kernfs_drain(self) -> None:
        """Sleep until no reader is inside."""


PROCS = "cgroup.procs"


def cgroup_ino(cgroup: Cgroup) -> int:
    """The inode number of a cgroup's directory."""
    return 2 * cgroup.serial_nr


@attrs.define(eq=False)
class KernfsRoot(Shared):
    """struct kernfs_root of cgroup2: nodes by number. A directory has an even number, its cgroup.procs the next one."""

    cgroup: Cgroup

    @property
    def label(self) -> str:
        return "kernfs of cgroup2"

    def cgroup_of(self, ino: int) -> Cgroup:
        """kn->priv: the cgroup of a directory or of its file; a cgroup stays linked while its directory is in use."""
        return next(cgroup for cgroup in (self.cgroup, *self.cgroup.descendants()) if cgroup.serial_nr == ino // 2)

    @operation(READ)
    def find(self, directory: int, name: str) -> int | None:
        """kernfs_find_ns(): the number of a name in a directory, or None if there is none or it is removed."""
        parent = self.cgroup_of(directory)
        if name == PROCS:
            return None if parent.is_dead else directory + 1
        return next((cgroup_ino(child) for child in parent.children if child.name == name and not child.is_dead), None)


def root_of(sb: SuperBlock) -> KernfsRoot:
    """kernfs_info(sb)->root."""
    assert isinstance(sb.s_fs_info, KernfsRoot), f"{sb.label} is not of kernfs"
    return sb.s_fs_info


@extern
async def kernfs_remove(ctx: Context, kn: KernfsNode) -> None: ...
