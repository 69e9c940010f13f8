"""The problem that the patch series solves: a workload leaves one shared object behind in every cgroup it ran in.

Each generation of a job runs in a new cgroup and makes some files. A task outside the cgroup holds some of the files
open; the others are removed. The job exits, and the cgroup is removed. For each generation `original` keeps the whole
cgroup, and 5.3 keeps only the two caches, which belong to the parent then. Writes to drop_caches free neither. At the
end the held files are closed and removed too, and then nothing may be left. The sample points are the same as in the
captures on Linux 5.2.1 and 5.3.1.
"""

from __future__ import annotations

from actors.api import Cgroup, Context
from actors.linux.fs.dcache import Dentry
from actors.linux.fs.drop_caches import drop_caches_sysctl_handler
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.file_table import File, fput
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.namei import do_filp_open, do_unlinkat
from actors.linux.fs.read_write import vfs_write
from actors.linux.fs.super import SuperBlock, caches_of, vfs_get_tree
from actors.linux.mm.shmem import TMPFS
from scenarios.api import MACHINE, Knob, Stage, enter, mkdir, rmdir, scenario

BETWEEN_FILES_NS = 20_000_000
REST_NS = 2_000_000_000
FILESYSTEMS = {TMPFS.name: TMPFS, EXT4.name: EXT4}

Kept = list[tuple[str, File]]
"""Files that one generation left open, by their names."""


@scenario(
    "shared-dentry",
    "generations of a job, each in a new cgroup, leave one file that others go on using",
    Knob("generations", "how many times the job runs", 20, least=1),
    Knob("files", "files that each generation makes", 5, least=1),
    Knob("held", "files of each generation that stay in use", 1),
    Knob("every", "generations, and later releases, between two sampled points", 20, least=1),
    Knob("filesystem", "where the files are: in memory, or on a disk", TMPFS.name, choices=tuple(FILESYSTEMS)),
    Knob("parent", "yes: the cgroups are made below a lasting cgroup, not below the root", "no", choices=("no", "yes")),
    *MACHINE,
)
def shared_dentry(stage: Stage) -> None:
    machine = stage.boot()
    s_type = FILESYSTEMS[stage.knobs["filesystem"]]
    caches_of(machine, s_type)  # raises UsageError now if the machine lacks one of them
    generations, every = stage.knobs["generations"], stage.knobs["every"]
    files, held = stage.knobs["files"], min(stage.knobs["held"], stage.knobs["files"])
    mounted: list[SuperBlock] = []
    parents: list[Cgroup] = []
    kept: list[Kept] = []

    async def mount(ctx: Context) -> None:
        mounted.append(await vfs_get_tree(ctx, s_type))
        if stage.knobs["parent"] == "yes":
            parents.append(await mkdir(ctx, machine.root_cgroup, "parent"))

    async def run_job(ctx: Context, number: int, cgroup: Cgroup) -> None:
        """Make the files in the cgroup; the root cgroup opens the last ones, and the others are removed."""
        directory, names = mounted[0].root, [f"{number}.{index}" for index in range(files)]
        await enter(ctx, cgroup)
        await make_files(ctx, directory, names)
        await enter(ctx, machine.root_cgroup)
        kept.append(await open_files(ctx, directory, names[files - held :]))
        await enter(ctx, cgroup)
        for name in names[: files - held]:
            await do_unlinkat(ctx, directory, name)
        await enter(ctx, machine.root_cgroup)

    async def generation(ctx: Context, number: int) -> None:
        cgroup = await mkdir(ctx, parents[0] if parents else machine.root_cgroup, f"job{number}")
        await ctx.migrate(machine.cpus[number % len(machine.cpus)])
        await run_job(ctx, number, cgroup)
        await rmdir(ctx, cgroup)

    async def sample(ctx: Context, point: str) -> None:
        """Sample after a time long enough for all pending work; settle() would wait for this task itself."""
        await ctx.sleep(REST_NS)
        stage.sample(point)

    async def sample_every(ctx: Context, point: str, number: int) -> None:
        if number % every == 0 or number == generations:
            await sample(ctx, f"{point}{number}")

    async def story(ctx: Context) -> None:
        stage.sample("base")
        for number in range(1, generations + 1):
            await generation(ctx, number)
            await sample_every(ctx, "g", number)
        await sample(ctx, "end+2s")
        for value in (1, 2, 3):
            await drop_caches_sysctl_handler(ctx, value)
            await sample(ctx, f"drop{value}")
        for number, made in enumerate(kept, start=1):
            await release_files(ctx, mounted[0].root, made)
            await sample_every(ctx, "rel", number)

    stage.set_up(mount)
    stage.task("job", story)
    stage.wind_up(lambda ctx: forget_names(ctx, mounted[0]))
    stage.sometimes(
        "a child cache outlives its cgroup",
        lambda: machine.root_cgroup.nr_descendants == 1 + len(parents) and bool(kept),
    )
    stage.always(
        "the tree's counts are not negative", lambda: machine.root_cgroup.nr_dying_descendants >= 0, is_local=True
    )
    stage.eventually("no cgroup is dying", lambda: machine.root_cgroup.nr_dying_descendants == 0)
    stage.eventually("no child cache is left", lambda: not machine.child_caches)


async def make_files(ctx: Context, directory: Dentry, names: list[str]) -> None:
    """Make empty files, with a pause after each."""
    for name in names:
        file = await do_filp_open(ctx, directory, name, creat=True)
        if file is not None:
            await fput(ctx, file)
        await ctx.sleep(BETWEEN_FILES_NS)


async def open_files(ctx: Context, directory: Dentry, names: list[str]) -> Kept:
    """Open the files *names*; leave out those that could not be made."""
    opened = [(name, await do_filp_open(ctx, directory, name)) for name in names]
    return [(name, file) for name, file in opened if file is not None]


async def release_files(ctx: Context, directory: Dentry, kept: Kept) -> None:
    """Close and remove them."""
    for name, file in kept:
        await fput(ctx, file)
        await do_unlinkat(ctx, directory, name)


async def write_file(ctx: Context, directory: Dentry, name: str, pages: int = 0) -> None:
    """Open a file, create it if it does not exist, append *pages* pages, and close it."""
    file = await do_filp_open(ctx, directory, name, creat=True)
    if file is not None:
        if pages:
            await vfs_write(ctx, file, pages)
        await fput(ctx, file)


async def forget_names(ctx: Context, sb: SuperBlock) -> None:
    """Sync and drop all unused dentries and inodes; on a disk, negative dentries stay until memory is needed."""
    await sync_inodes_sb(ctx, sb)
    for _ in range(2):
        await drop_caches_sysctl_handler(ctx, 3)
        await ctx.settle()
