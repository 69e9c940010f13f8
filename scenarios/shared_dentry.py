"""The story of the patch series: a workload that leaves one shared object behind in every cgroup it ran in.

Generations of a job each run in a new cgroup, make some files, leave some of them open elsewhere, exit, and the cgroup
is removed. `original` keeps the whole cgroup for each of them; 5.3 keeps only the two caches, now the parent's. At
the end the files that were kept are released too, and nothing may be left.
"""

from __future__ import annotations

from actors.kernel.cgroup import Cgroup
from actors.kernel.context import Context
from actors.kernel.dcache import File, FileCaches, close_file, create_file, unlink_file
from scenarios.registry import MACHINE, Knob, scenario
from scenarios.stage import Stage, enter, mkdir, rmdir

BETWEEN_FILES_NS = 20_000_000


@scenario(
    "shared-dentry",
    "generations of a job, each in a new cgroup, leave one file that others go on using",
    Knob("generations", "how many times the job runs", 20, least=1),
    Knob("files", "files that each generation makes", 5, least=1),
    Knob("held", "files of each generation that stay in use", 1),
    Knob("every", "generations between two sampled points, and releases between two", 20, least=1),
    *MACHINE,
)
def shared_dentry(stage: Stage) -> None:
    machine = stage.boot()
    caches = FileCaches(*(machine.root_cache(name) for name in ("filp", "dentry", "shmem_inode_cache")))
    generations, every = stage.knobs["generations"], stage.knobs["every"]
    files, held = stage.knobs["files"], min(stage.knobs["held"], stage.knobs["files"])
    kept: list[list[File]] = []

    async def run_job(ctx: Context, cgroup: Cgroup) -> None:
        """Make the files one after the other; the last ones stay in use, the others go with the job."""
        await enter(ctx, cgroup)
        made = []
        for _ in range(files):
            file = await create_file(ctx, caches)
            if file is not None:
                await close_file(ctx, file)
                made.append(file)
            await ctx.sleep(BETWEEN_FILES_NS)
        for file in made[: files - held]:
            await unlink_file(ctx, file)
        kept.append(made[files - held :])
        await enter(ctx, machine.root_cgroup)

    async def generation(ctx: Context, number: int) -> None:
        cgroup = await mkdir(ctx, machine.root_cgroup, f"job{number}")
        await ctx.migrate(machine.cpus[number % len(machine.cpus)])
        await run_job(ctx, cgroup)
        await rmdir(ctx, cgroup)

    async def story(ctx: Context) -> None:
        stage.sample("base")
        for number in range(1, generations + 1):
            await generation(ctx, number)
            if number % every == 0 or number == generations:
                await ctx.settle()
                stage.sample(f"g{number}")
        for number, made in enumerate(kept, start=1):
            for file in made:
                await unlink_file(ctx, file)
            if number % every == 0 or number == generations:
                await ctx.settle()
                stage.sample(f"rel{number}")

    stage.task("job", story)
    stage.sometimes("a child cache outlives its cgroup", lambda: machine.root_cgroup.nr_descendants == 1 <= len(kept))
    stage.always("the tree's counts are not negative", lambda: machine.root_cgroup.nr_dying_descendants >= 0)
    stage.eventually("no cgroup is dying", lambda: machine.root_cgroup.nr_dying_descendants == 0)
    stage.eventually("no child cache is left", lambda: not machine.child_caches)
