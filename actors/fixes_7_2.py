"""Fixes between the first merged form of 7.1 and 7.2, and weaker forms of 7.2's code, for `--without` and `--patch`.

As in `fixes_today`; 7.2 has all these fixes. docs/kernel/known-flaws-today.md has the list.
"""

from __future__ import annotations

from actors.fixes_today import MEMCONTROL, variation
from actors.linux.include.kernfs import kernfs_remove
from actors.linux.kernel.cgroup.cgroup import (
    Cgroup,
    Css,
    CssFlags,
    css_get,
    css_killed_ref_fn,
    kill_css_finish,
    kill_css_sync,
)
from actors.linux.kernel.cgroup.rstat import Key, css_rstat_of
from actors.linux.lib.percpu_refcount import percpu_ref_kill, percpu_ref_kill_and_confirm
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.vmstat import THIS_CPU_STAT, memcg_rstat_updated, stats_of
from actors.machine.context import Context, deref
from actors.versions.patching import NamedFix
from actors.versions.profiles import declared_range


def fix(slug: str, commit: str, summary: str) -> NamedFix:
    """Declare a fix that 7.2 has, and that the first merged form of its code has not."""
    return NamedFix(slug, commit, summary, declared_range("7.2.."))


# -- a css that dies after its last task (KERNEL-7.2 N3) ---------------------------------------------------------------

CGROUP, RSTAT = "kernel/cgroup/cgroup.c", "kernel/cgroup/rstat.c"

exit_without_dying_look = variation(
    "exit-without-dying-look", "the last task of a css does not look whether the css is dying"
)


@exit_without_dying_look.puts_in("css_update_populated", CGROUP, profiles="7.2..")
async def update_without_look(ctx: Context, css: Css) -> None:
    """Nobody kills a css whose rmdir has left that to its last task."""
    level, by_child = css, False
    while level.parent is not None and await ctx.ask(level.populate, -1, by_child=by_child):
        level, by_child = level.parent, True


populated_before_dying = variation(
    "populated-before-dying", "rmdir looks whether a css is populated before it marks the css as dying, not after"
)


@populated_before_dying.puts_in("cgroup_destroy_locked", CGROUP, profiles="7.2..")
async def destroy_without_recheck(ctx: Context, cgroup: Cgroup) -> bool:
    """A task that leaves in between sees no dying css, and rmdir has seen the task."""
    tree = ctx.machine.cgroup_tree
    if await ctx.ask(tree.has_visible_task, cgroup) or await ctx.ask(tree.has_online_child, cgroup):
        return False
    await ctx.ask(cgroup.self_css.clear_flags, CssFlags.ONLINE)
    is_populated = cgroup.has_css and await ctx.ask(cgroup.css.read_populated)
    if cgroup.has_css:
        await kill_css_sync(ctx, cgroup.css)
    await kernfs_remove(ctx, cgroup.self_css.files)
    await ctx.ask(tree.mark_dying, cgroup)
    await percpu_ref_kill(ctx, deref(cgroup.self_css.refcnt, "cgroup_destroy_locked(): cgrp->self.refcnt"))
    if cgroup.has_css and not is_populated:
        await kill_css_finish(ctx, cgroup.css)
    return True


kill_finish_twice = variation(
    "kill-finish-twice", "kill_css_finish() does not look whether the reference count has been killed already"
)


@kill_finish_twice.puts_in("kill_css_finish", CGROUP, profiles="7.2..")
async def finish_without_look(ctx: Context, css: Css) -> None:
    """Both rmdir and the last task may find that nothing keeps the css from being killed."""
    await css_get(ctx, css)
    refcnt = deref(css.refcnt, "kill_css_finish(): css->refcnt")
    await percpu_ref_kill_and_confirm(ctx, refcnt, css_killed_ref_fn)


# -- statistics by css (KERNEL-7.2 N4) ---------------------------------------------------------------------------------

rstat_exit_without_flush = variation(
    "rstat-exit-without-flush", "css_rstat_exit() does not flush what was counted after the release"
)


@rstat_exit_without_flush.puts_in("css_rstat_exit", RSTAT, profiles="7.2..")
async def free_rstat(ctx: Context, css: Css) -> None:
    """The css may still be on the list of a CPU."""
    if css.rstat is not None:
        ctx.kfree(css.rstat)


look_before_count = variation(
    "look-before-count", "a CPU's counter is visible to others after its look at lnode, as a store buffer allows"
)


async def count_late(ctx: Context, memcg: Memcg, keys: tuple[Key, ...], nr: int) -> None:
    """A flush in between frees the lnode and misses the count, which then waits for the next update of this CPU."""
    rstat, stats = css_rstat_of(memcg.css), stats_of(memcg)
    with ctx.preempt_section:
        cpu = ctx.smp_processor_id
        is_queued = await ctx.ask(rstat.is_queued, cpu)
        await ctx.this_cpu(stats, THIS_CPU_STAT)
        pages = stats.count_here(ctx, keys, nr)
        if not is_queued and await ctx.ask(rstat.claim, cpu):
            await ctx.ask(ctx.machine.memory_rstat.llist_add, rstat, cpu)
        await memcg_rstat_updated(ctx, stats, cpu, pages)


@look_before_count.puts_in("__mod_memcg_lruvec_state", MEMCONTROL, profiles="7.2..", known_as="mod_memcg_lruvec_state")
async def count_late_for_node(ctx: Context, memcg: Memcg, nid: int, item: str, nr: int) -> None:
    """The counters of the memcg and of its node."""
    await count_late(ctx, memcg, ((None, item), (nid, item)), nr)


@look_before_count.puts_in("__mod_memcg_state", MEMCONTROL, profiles="7.2..", known_as="mod_memcg_state")
async def count_late_for_memcg(ctx: Context, memcg: Memcg, item: str, nr: int) -> None:
    """The counter of the memcg alone."""
    await count_late(ctx, memcg, ((None, item),), nr)


FIXES_7_2 = tuple(value for value in list(globals().values()) if isinstance(value, NamedFix))
