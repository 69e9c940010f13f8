"""The nodes of the xarray that holds the pages of a file in memory. lib/xarray.c @6.12; KERNEL-today 18.1.

A node has 64 places and is an object of the cache radix_tree_node, charged to the task that stores the first page
there. A page at index 0 that is alone has no node. Whoever removes the last page of a node gives the node to RCU. So it
keeps the obj_cgroup of a removed cgroup for a grace period after its last page has gone.

Left out: nodes of nodes, nodes of files on a disk (with their LRU list), and all nodes on a machine without the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.linux.include.slab import kmem_cache_alloc
from actors.linux.kernel.rcu.tree import RcuHead, call_rcu
from actors.linux.lib.radix_tree import XaNode, free_node, radix_tree_node_rcu_free
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL_ACCOUNT
from actors.versions.kernel_fn import kernel_fn

if TYPE_CHECKING:
    from actors.linux.fs.inode import Inode
    from actors.linux.mm.kmem_cache import KmemCache

NODE_CACHE = "radix_tree_node"
XA_CHUNK_SIZE = 64


def node_cache(ctx: Context, inode: Inode) -> KmemCache | None:
    """The cache of the nodes of *inode*'s pages; None if the model does without."""
    if inode.i_sb.s_type.has_reclaimable_pages:
        return None
    return next((cache for cache in ctx.machine.all_caches if cache.name == NODE_CACHE), None)


@kernel_fn("xas_create", "lib/xarray.c", profiles="6.12..")
async def xas_create(ctx: Context, inode: Inode, index: int) -> bool:
    """Have a node for the page at *index*; False is -ENOMEM."""
    s, number = node_cache(ctx, inode), index // XA_CHUNK_SIZE
    if s is None or not index or await ctx.ask(inode.has_node, number):
        return True
    obj = await kmem_cache_alloc(ctx, s, GFP_KERNEL_ACCOUNT)
    if obj is None:
        return False
    node = XaNode(inode.actor, s, obj, number)
    if not await ctx.ask(inode.add_node, node):
        await free_node(ctx, node)
    return True


@kernel_fn("xas_delete_node", "lib/xarray.c", profiles="6.12..")
async def xas_delete_node(ctx: Context, inode: Inode, index: int) -> None:
    """After the page at *index* was removed: free its node after a grace period, if no page needs it."""
    node = await ctx.ask(inode.take_unused_node, index // XA_CHUNK_SIZE)
    if node is not None:
        await call_rcu(ctx, RcuHead(node), radix_tree_node_rcu_free)
