"""Directories of sysfs and of cgroups, as far as their removal waits for readers of their files. fs/kernfs @5.3.1."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from actors.kernel.context import Context
from actors.kernel.kernel_fn import kernel_fn
from actors.system.actor import Shared
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.system.flow import Flow


@attrs.define(eq=False)
class KernfsNode(Shared):
    """struct kernfs_node of a directory called `name`: `active` are the readers that are inside one of its files.

    Once it `is_removed`, nobody gets inside any more; whoever removes it waits for those who are. `lock_class` is
    lockdep's, of being inside and of that wait. The node outlives what it shows: who has a file open keeps it.
    """

    name: str
    lock_class: str
    is_removed: bool = attrs.field(default=False, init=False)
    active: dict[Context, None] = attrs.field(factory=dict, init=False)

    @property
    def label(self) -> str:
        return f"kernfs_node {self.name}"

    @property
    def held_by(self) -> str:
        return f", held by {', '.join(ctx.name for ctx in self.active)}" if self.active else ""

    def blockers(self, _flow: Flow) -> tuple[Flow, ...]:
        return tuple(self.active)

    @operation(UPDATE)
    def kernfs_get_active(self, ctx: Context) -> bool:
        """Go inside a file; False (-ENODEV) if it is being removed."""
        if not self.is_removed:
            self.active[ctx] = None
        return not self.is_removed

    @operation(UPDATE)
    def kernfs_put_active(self, ctx: Context) -> None:
        self.active.pop(ctx, None)

    @operation(UPDATE)
    def deactivate(self) -> None:
        """Nobody gets inside any more."""
        self.is_removed = True

    def is_drained(self) -> bool:
        return not self.active

    @operation(READ, when=is_drained, sleeps=True)
    def kernfs_drain(self) -> None:
        """Sleep until nobody is inside."""


@kernel_fn("kernfs_remove", "fs/kernfs/dir.c")
async def kernfs_remove(ctx: Context, kn: KernfsNode) -> None:
    """Remove a directory: nobody gets inside any more; wait for those who are, which takes no step if nobody is."""
    kn.is_removed = True
    kn.touch(UPDATE)
    ctx.machine.lockdep.acquire(ctx, kn.lock_class)
    if kn.active:
        await ctx.ask(kn.kernfs_drain)
    ctx.machine.lockdep.release(ctx, kn.lock_class)


@kernel_fn("kernfs_fop_read", "fs/kernfs/file.c")
async def kernfs_fop_read(ctx: Context, kn: KernfsNode, read: Callable[[], Awaitable[bytes]]) -> bytes | None:
    """*read* a file of *kn* with an active reference, so that its removal waits; None (-ENODEV) if it is removed."""
    if not await ctx.ask(kn.kernfs_get_active, ctx):
        return None
    ctx.machine.lockdep.acquire(ctx, kn.lock_class, reads=True)
    data = await read()
    ctx.machine.lockdep.release(ctx, kn.lock_class)
    await ctx.ask(kn.kernfs_put_active, ctx)
    return data
