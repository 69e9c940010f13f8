"""A node of an xarray, and how RCU frees it. lib/radix-tree.c @6.12, which still has the cache of the nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.include.slab import kmem_cache_free
from actors.linux.kernel.rcu.tree import RcuHead
from actors.machine.context import Context
from actors.system.actor import Shared
from actors.versions.kernel_fn import kernel_fn

if TYPE_CHECKING:
    from actors.linux.mm.kmem_cache import KmemCache, SlabObject


@attrs.define(eq=False)
class XaNode(Shared):
    """struct xa_node: the places of 64 pages in a row, the `number`-th of its file; `obj` is its object."""

    s: KmemCache
    obj: SlabObject
    number: int

    @property
    def label(self) -> str:
        return f"xa_node {self.number} in {self.obj.label}"


@kernel_fn("radix_tree_node_rcu_free", "lib/radix-tree.c", profiles="6.12..")
async def radix_tree_node_rcu_free(ctx: Context, head: RcuHead) -> None:
    """RCU callback: uncharge and free a node."""
    assert isinstance(head.container, XaNode)
    await free_node(ctx, head.container)


async def free_node(ctx: Context, node: XaNode) -> None:
    """Free the node's object, and with it the node."""
    ctx.kfree(node)
    await kmem_cache_free(ctx, node.s, node.obj)
