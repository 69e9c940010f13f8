"""The last tasks of a cgroup and of its child end while both are removed (KERNEL-7.2 N3).

A parent is told of the end of its children before they have switched out for the last time, and removes their cgroup at
once, as a service manager does. Up to 6.12 a task has left its cgroup by then. In 7.2 it is still there: rmdir does not
see it, marks the css as dying, and leaves the kill to the last task. A task in the child keeps the parent's css, too.
"""

from __future__ import annotations

from actors.api import Cgroup, Context, kmem_cache_alloc, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import CssFlags
from actors.linux.kernel.locking.locks import Completion
from actors.versions.profiles import RSTAT_PER_CSS, WITHOUT_CHILD_CACHES
from scenarios.api import MACHINE, Knob, Stage, mkdir, rmdir, scenario, small_cache

NAMES = ("outer", "inner")


@scenario(
    "exit-vs-rmdir",
    "the last tasks of a cgroup and of its child end while both are removed",
    Knob("tasks", "tasks in each of the two cgroups", 1, least=1, most=4),
    Knob("objects", "objects that each of them allocates and frees", 0, most=8),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def exit_vs_rmdir(stage: Stage) -> None:
    machine = stage.boot(caches=[small_cache("alpha")])
    cache = machine.root_cache("alpha")
    path: list[Cgroup] = []

    async def make_path(ctx: Context) -> None:
        above = machine.root_cgroup
        for name in NAMES:
            above = await mkdir(ctx, above, name)
            path.append(above)

    async def live(ctx: Context) -> None:
        for _ in range(stage.knobs["objects"]):
            obj = await kmem_cache_alloc(ctx, cache)
            if obj is not None:
                await kmem_cache_free(ctx, cache, obj)

    async def fork(ctx: Context, cgroup: Cgroup, cpu: int) -> Completion:
        """Start the tasks of one cgroup; the completion is what wait(2) sleeps on."""
        tasks = stage.knobs["tasks"]
        ended = Completion(machine.cgroup_tree.actor, remaining=tasks)
        for number in range(tasks):
            task = machine.new_task(f"{cgroup.name}{number}", (cpu + number) % len(machine.cpus))
            await ctx.ask(machine.cgroup_tree.move_task, task, cgroup)
            machine.start(task, live, ended)
        return ended

    async def run_and_remove(ctx: Context) -> None:
        ended = [await fork(ctx, cgroup, cpu) for cpu, cgroup in enumerate(path)]
        for cgroup, completion in reversed([*zip(path, ended, strict=True)]):
            await ctx.ask(completion.wait_for_completion)
            await rmdir(ctx, cgroup)

    def is_delayed(level: int) -> bool:
        css = path[level].css if len(path) > level else None
        return css is not None and CssFlags.DYING in css.flags and css.is_populated

    stage.set_up(make_path)
    stage.task("parent", run_and_remove)
    if stage.kernel in RSTAT_PER_CSS:
        stage.sometimes("a task still runs in a css that is dying", lambda: is_delayed(1))
        stage.sometimes(
            "a task in the child delays the parent", lambda: is_delayed(0) and not path[0].css.nr_populated_csets
        )
    stage.eventually("every cgroup is gone", stage.only_session_left)
