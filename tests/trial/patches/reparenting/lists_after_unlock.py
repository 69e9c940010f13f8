"""Wrong, 7.2: the obj_cgroups go to the parent first, the LRU lists when objcg_lock is dropped again."""

from actors.api import Context, Memcg, SpinLockIrqHeld, deref, kernel_fn, spin_unlock
from actors.linux.include.swap import lru_reparent_memcg
from actors.linux.kernel.locking.locks import spin_lock_nested
from actors.linux.lib.percpu_refcount import percpu_ref_kill
from actors.linux.mm.obj_cgroup import move_objcgs


@kernel_fn("memcg_reparent_objcgs", "mm/memcontrol.c")
async def reparent(ctx: Context, memcg: Memcg, parent: Memcg) -> None:
    nodes = list(zip(memcg.nodeinfo, parent.nodeinfo, strict=True))
    objcgs = []
    async with SpinLockIrqHeld(ctx, ctx.machine.objcg_lock):
        for node, _ in nodes:
            objcgs.append(deref(await ctx.ask(node.take_objcg), "memcg_reparent_objcgs(): pn->objcg"))
            await move_objcgs(ctx, objcgs[-1], memcg, parent)
    for node, above in nodes:
        await spin_lock_nested(ctx, node.lruvec.lru_lock)
        await spin_lock_nested(ctx, above.lruvec.lru_lock)
        await lru_reparent_memcg(ctx, node, above)
        await spin_unlock(ctx, above.lruvec.lru_lock)
        await spin_unlock(ctx, node.lruvec.lru_lock)
    for objcg in objcgs:
        await percpu_ref_kill(ctx, objcg.refcnt)
