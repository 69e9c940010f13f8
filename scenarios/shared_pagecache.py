"""What keeps cgroups dying after the series: pages of the page cache (KERNEL-today 10.9, 19, 24, 27.16).

Each generation of a job runs in a new cgroup below a lasting one. In memory, it makes some empty files, of which one is
held open from outside, and appends 64 kB to one file that all generations share. On a disk, it reads the 16 kB of a
file of its own. The job exits, and the cgroup is removed. A page that the job wrote, or was first to read, stays
charged to the cgroup and holds a reference to it (KERNEL-today 10.1). So on every kernel here as many cgroups are dying
as there were generations.

In memory, writes to drop_caches free nothing: without swap, tmpfs pages have no other place. At the end the held files
are closed and removed, then the pages of one generation after the other are punched out of the shared file.

- `original`: the held files keep child caches, which keep the cgroups, too. They are gone before the pages are.
- 5.3: the held files keep only child caches, two for each generation, and these are the parent's.
  As with each removal below another cgroup, the parent's statistics are wrong afterwards (KERNEL.md 9.4), a finding.
- 6.12: the same without child caches. A held file keeps an obj_cgroup.

On a disk, drop_caches 1 frees the pages, and nothing is dying any more. Dentries and inodes stay until drop_caches 2.
On 6.12 they keep obj_cgroups. On the kernels of 2019 they keep nothing: a job allocates one of each, which is before
its child caches exist.

The sample points and the pauses before them are those of the captures on Linux 6.12.
"""

from __future__ import annotations

import attrs

from actors.api import Cgroup, Context, Machine
from actors.linux.fs.drop_caches import drop_caches_sysctl_handler
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.file_table import File, fput
from actors.linux.fs.namei import do_filp_open, do_unlinkat
from actors.linux.fs.read_write import vfs_read, vfs_write
from actors.linux.fs.super import SuperBlock, caches_of, vfs_get_tree
from actors.linux.mm.shmem import TMPFS, shmem_fallocate
from scenarios.api import MACHINE, Knob, Stage, mkdir, rmdir, run_in, scenario
from scenarios.services import write_disk
from scenarios.shared_dentry import Kept, forget_names, make_files, open_files, release_files

MS = 1_000_000
BETWEEN_GENERATIONS_NS, AFTER_GENERATIONS_NS, END_NS = 20 * MS, 300 * MS, 2_000 * MS
AFTER_DROP_NS, AFTER_RELEASE_NS, REST_NS = 1_000 * MS, 500 * MS, 3_000 * MS

WRITTEN_PAGES, READ_PAGES = 16, 4
SHARED = "shared"
FILESYSTEMS = ("tmpfs", "disk")


@attrs.define(eq=False)
class Job:
    """A job that leaves pages behind. `written` are the first page and the number of pages of each generation."""

    machine: Machine
    sb: SuperBlock
    parent: Cgroup
    files: int
    shared: list[File] = attrs.field(factory=list)
    kept: list[Kept] = attrs.field(factory=list)
    written: list[tuple[int, int]] = attrs.field(factory=list)

    async def generation(self, ctx: Context, number: int) -> None:
        """Let a task on the other CPU do the job in a new cgroup, and remove the cgroup."""
        cgroup = await mkdir(ctx, self.parent, f"job{number}")
        names = [f"{number}.{index}" for index in range(self.files)]
        await ctx.migrate(self.machine.cpus[-1])
        if self.shared:
            await run_in(ctx, cgroup, lambda ctx: self.write_in_memory(ctx, names))
        else:
            await run_in(ctx, cgroup, lambda ctx: self.read_from_disk(ctx, str(number)))
        await ctx.migrate(self.machine.cpus[0])
        if self.shared:
            self.kept.append(await open_files(ctx, self.sb.root, names[-1:]))
        await rmdir(ctx, cgroup)

    async def write_in_memory(self, ctx: Context, names: list[str]) -> None:
        """Make empty files, append pages to the shared one, and remove all of the files but the last."""
        await make_files(ctx, self.sb.root, names)
        for file in self.shared:
            first = sum(pages for _, pages in self.written)
            self.written.append((first, await vfs_write(ctx, file, WRITTEN_PAGES)))
        for name in names[:-1]:
            await do_unlinkat(ctx, self.sb.root, name)

    async def read_from_disk(self, ctx: Context, name: str) -> None:
        """Read a file that no other generation reads."""
        for _, file in await open_files(ctx, self.sb.root, [name]):
            await vfs_read(ctx, file)
            await fput(ctx, file)


@scenario(
    "shared-pagecache",
    "generations of a job, each in a new cgroup, leave pages of files behind that stay cached",
    Knob("generations", "how many times the job runs", 20, least=1),
    Knob("files", "empty files that each generation makes in memory; one of them stays in use", 5, least=1),
    Knob("every", "generations, and later releases, between two sampled points", 20, least=1),
    Knob(
        "filesystem", "where the pages are: in one file in memory, or in many on a disk", "tmpfs", choices=FILESYSTEMS
    ),
    *MACHINE,
)
def shared_pagecache(stage: Stage) -> None:
    machine = stage.boot()
    generations, is_on_disk = stage.knobs["generations"], stage.knobs["filesystem"] == "disk"
    s_type = EXT4 if is_on_disk else TMPFS
    caches_of(machine, s_type)  # raises UsageError now if the machine lacks one of them
    jobs: list[Job] = []

    async def mount(ctx: Context) -> None:
        """The disk has its files already; in memory, the shared file is made outside all cgroups."""
        sb = await vfs_get_tree(ctx, s_type)
        job = Job(machine, sb, await mkdir(ctx, machine.root_cgroup, "parent"), stage.knobs["files"])
        jobs.append(job)
        if is_on_disk:
            write_disk(sb, generations + 1, READ_PAGES)
            return
        file = await do_filp_open(ctx, sb.root, SHARED, creat=True)
        job.shared.extend([file] if file is not None else [])

    async def sample(ctx: Context, point: str, after_ns: int) -> None:
        await ctx.sleep(after_ns)
        stage.sample(point)

    async def sample_every(ctx: Context, point: str, number: int, after_ns: int) -> None:
        if number % stage.knobs["every"] == 0 or number == generations:
            await sample(ctx, f"{point}{number}", after_ns)

    async def release(ctx: Context, job: Job) -> None:
        """In memory: remove the held files, then the pages of one generation after the other."""
        for number, made in enumerate(job.kept, start=1):
            await release_files(ctx, job.sb.root, made)
            await sample_every(ctx, "rel", number, AFTER_RELEASE_NS)
        for number, (first, pages) in enumerate(job.written, start=1):
            await shmem_fallocate(ctx, job.shared[0], first, pages)
            await sample_every(ctx, "punch", number, AFTER_RELEASE_NS)

    async def story(ctx: Context) -> None:
        stage.sample("base")
        for number in range(1, generations + 1):
            await jobs[0].generation(ctx, number)
            await ctx.sleep(BETWEEN_GENERATIONS_NS)
            await sample_every(ctx, "g", number, AFTER_GENERATIONS_NS)
        await sample(ctx, "end+2s", END_NS)
        for value in (1, 2, 3):
            await drop_caches_sysctl_handler(ctx, value)
            await sample(ctx, f"drop{value}", AFTER_DROP_NS)
        await release(ctx, jobs[0])
        await sample(ctx, "rest+3s", REST_NS)
        await drop_caches_sysctl_handler(ctx, 3)
        await sample(ctx, "last", REST_NS)

    async def let_go(ctx: Context) -> None:
        await release_files(ctx, jobs[0].sb.root, [(SHARED, file) for file in jobs[0].shared])
        await forget_names(ctx, jobs[0].sb)

    stage.set_up(mount)
    stage.task("job", story)
    stage.wind_up(let_go)
    stage.sometimes("a removed cgroup is dying", lambda: machine.root_cgroup.nr_dying_descendants > 0)
    stage.always(
        "the tree's counts are not negative", lambda: machine.root_cgroup.nr_dying_descendants >= 0, is_local=True
    )
    stage.eventually("no cgroup is dying", lambda: machine.root_cgroup.nr_dying_descendants == 0)
    stage.eventually("no child cache is left", lambda: not machine.child_caches)
