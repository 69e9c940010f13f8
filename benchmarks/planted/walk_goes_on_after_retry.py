"""mm/list_lru.c: __list_lru_walk_one() continues with its old list position after the lock was dropped (LRU_RETRY)."""

from collections import deque

from actors.api import kernel_fn
from actors.linux.mm.list_lru import Isolate, ListLruWalk, LruStatus
from actors.machine.context import BUG_ON, Context, bug


@kernel_fn("__list_lru_walk_one", "mm/list_lru.c")
async def walk_one(ctx: Context, walk: ListLruWalk, isolate: Isolate) -> int:
    """Only LRU_REMOVED_RETRY restarts the walk."""
    isolated = 0
    items = deque(await ctx.ask(walk.node.list_items, walk.one))
    while items and walk.nr_to_walk:
        item = items.popleft()
        walk.nr_to_walk -= 1
        status = await isolate(ctx, item, walk)
        if status in (LruStatus.REMOVED, LruStatus.REMOVED_RETRY):
            isolated += 1
            await ctx.ask(walk.node.count_isolated)
        elif status is LruStatus.ROTATE:
            await ctx.ask(walk.node.move_tail, item, walk.one)
            if items:
                items.append(item)
        elif status not in (LruStatus.SKIP, LruStatus.RETRY):
            bug(ctx, "__list_lru_walk_one: unknown lru_status")
        if status is LruStatus.REMOVED_RETRY:
            BUG_ON(ctx, walk.node.lock.holder is not ctx, "__list_lru_walk_one: assert_spin_locked(&nlru->lock)")
            items = deque(await ctx.ask(walk.node.list_items, walk.one))
    return isolated
