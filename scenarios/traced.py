"""The program whose kernel traces `slabrace match` reads: three parts of it, each as a scenario.

A parent makes a cgroup. A child in it, on another CPU, makes files; it pauses after each of the first ones, so that the
child caches exist for the others. The child removes the files and exits. In one of the scenarios the parent holds the
last file open, and this file stays. Then the parent removes the cgroup, and later the held file. The parent writes
marks into the trace: for each mark it opens the tracer's file, writes, and closes it. It switches the tracer on in the
same way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from actors.api import Completion, Context
from actors.linux.fs.dcache import Dentry, dput
from actors.linux.fs.file_table import File, fput
from actors.linux.fs.kernfs import CGROUP2
from actors.linux.fs.namei import do_filp_open, do_mkdirat, do_rmdir, do_unlinkat, filename_lookup
from actors.linux.fs.read_write import vfs_write
from actors.linux.fs.super import caches_of, vfs_get_tree
from actors.linux.include.kernfs import PROCS
from actors.linux.include.swap import lru_add_drain
from actors.linux.kernel.cgroup.cgroup import cgroup_procs_write
from actors.linux.mm.shmem import TMPFS
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from scenarios.api import Knob, Stage, charge_elsewhere, machine, scenario

CACHES = ("filp", "dentry", "inode_cache", "shmem_inode_cache")
CGROUP = "job"
PARENT = "jobs"
MARKER = "trace_marker"
BETWEEN_FILES_NS = 20_000_000
REST_NS = 1_200_000_000
WRITTEN_PAGES = 16

KNOBS = (
    Knob("slow", "files that are made first, with a pause after each", 3),
    Knob("files", "files that are made afterwards, one after the other", 5, least=1),
    Knob("parent_cpu", "the CPU of the task that makes and removes the cgroup", 0, most=63),
    Knob("child_cpu", "the CPU of the task in the cgroup", 1, most=63),
    *machine(),
)


@attrs.define(eq=False)
class Program:
    """The traced program on its machine: the roots of its filesystems, and the file that the parent holds.

    tracefs keeps its names in memory as tmpfs does, so a tmpfs is mounted in its place.
    """

    stage: Stage
    cgroup2: Dentry = attrs.field(init=False)
    tmpfs: Dentry = attrs.field(init=False)
    tracefs: Dentry = attrs.field(init=False)
    jobs: Dentry = attrs.field(init=False)
    held: File | None = attrs.field(default=None, init=False)

    @property
    def is_nested(self) -> bool:
        """Whether the cgroup is made below another, as in the captures of 6.12; those of 2019 do not show it."""
        return self.stage.kernel in WITHOUT_CHILD_CACHES

    @property
    def names(self) -> list[str]:
        """The files that the child makes."""
        return [f"file{number}" for number in range(self.stage.knobs["slow"] + self.stage.knobs["files"])]

    async def mount(self, ctx: Context) -> None:
        """Mount cgroup2, a tmpfs for the files, and tracefs."""
        self.cgroup2 = self.jobs = (await vfs_get_tree(ctx, CGROUP2)).root
        self.tmpfs = (await vfs_get_tree(ctx, TMPFS)).root
        self.tracefs = (await vfs_get_tree(ctx, TMPFS)).root
        await close(ctx, await do_filp_open(ctx, self.tracefs, MARKER, creat=True))
        if self.is_nested:
            await do_mkdirat(ctx, self.cgroup2, PARENT)
            directory = await filename_lookup(ctx, self.cgroup2, PARENT)
            assert directory is not None, "it was made just now"
            self.jobs = directory

    async def age(self, ctx: Context) -> None:
        """The running task has allocated before the trace begins, so it knows that it charges nobody."""
        if ctx.objcg is not None:
            await ctx.ask(ctx.objcg.store, None)

    async def unmount(self, ctx: Context) -> None:
        """Remove the cgroup above the program's."""
        if self.is_nested:
            await dput(ctx, self.jobs)
            await ctx.settle()
            await do_rmdir(ctx, self.cgroup2, PARENT)
            await charge_elsewhere(ctx, self.stage.session)

    async def mark(self, ctx: Context) -> None:
        """Echo ... > trace_marker, or tracing_on."""
        await close(ctx, await do_filp_open(ctx, self.tracefs, MARKER))

    async def enter_cgroup(self, ctx: Context, task: Context, name: str = CGROUP) -> None:
        """Echo $PID > job/cgroup.procs."""
        directory = await filename_lookup(ctx, self.jobs, name)
        assert directory is not None, "the parent has made the cgroup"
        procs = await do_filp_open(ctx, directory, PROCS)
        assert procs is not None, "every cgroup has one"
        await cgroup_procs_write(ctx, procs.dentry, task)
        await fput(ctx, procs)
        await dput(ctx, directory)

    async def make_files(self, ctx: Context) -> list[File]:
        """Make all files, and leave them open."""
        opened = []
        for number, name in enumerate(self.names):
            file = await do_filp_open(ctx, self.tmpfs, name, creat=True)
            assert file is not None, "there is memory"
            opened.append(file)
            if number < self.stage.knobs["slow"]:
                await ctx.sleep(BETWEEN_FILES_NS)
        return opened

    async def run_child(
        self, ctx: Context, body: Callable[[Context], Awaitable[None]], name: str = CGROUP, cpu: int | None = None
    ) -> None:
        """fork(): the child enters the cgroup *name* and runs *body* on its CPU, or on *cpu*; wait for its end."""
        machine = ctx.machine
        cpu = self.stage.knobs["child_cpu"] if cpu is None else cpu
        child = machine.new_task(f"child-{machine.next_pid()}", cpu % len(machine.cpus))
        done = Completion(machine.cgroup_tree.actor, remaining=1)

        async def live(ctx: Context) -> None:
            await self.enter_cgroup(ctx, ctx, name)
            await body(ctx)

        machine.start(child, live, done)
        await ctx.ask(done.wait_for_completion)

    async def run_generation(self, ctx: Context, *, hold: bool, shared: File | None = None) -> None:
        """Do everything before the removal of the cgroup; with *hold* the parent opens the last file, which stays.

        The child writes 64 kB into the *shared* file, if there is one.
        """
        await do_mkdirat(ctx, self.jobs, CGROUP)
        kept = self.names[-1] if hold else None

        async def work(ctx: Context) -> None:
            for file in await self.make_files(ctx):
                await fput(ctx, file)
            if shared is not None:
                await vfs_write(ctx, shared, WRITTEN_PAGES)
                await lru_add_drain(ctx)  # the child's exit does it, when its own memory goes (tlb_finish_mmu())
            await ctx.sleep(BETWEEN_FILES_NS)
            for name in self.names:
                if name != kept:
                    await do_unlinkat(ctx, self.tmpfs, name)

        await self.run_child(ctx, work)
        if kept is not None:
            self.held = await do_filp_open(ctx, self.tmpfs, kept)
        await ctx.settle()

    async def remove_cgroup(self, ctx: Context) -> None:
        """Switch the tracer on, call rmdir(2) with a mark before and after it, and let pending work finish."""
        await self.mark(ctx)
        await self.mark(ctx)
        assert await do_rmdir(ctx, self.jobs, CGROUP), "nobody is in it"
        await self.mark(ctx)
        await ctx.sleep(REST_NS)

    async def release(self, ctx: Context) -> None:
        """Close and unlink the held file, with a mark before and after it."""
        await self.mark(ctx)
        await close(ctx, self.held)
        await do_unlinkat(ctx, self.tmpfs, self.names[-1])
        await self.mark(ctx)


async def close(ctx: Context, file: File | None) -> None:
    """Close *file*, which must not be None."""
    assert file is not None, "the file is there"
    await fput(ctx, file)


def program(stage: Stage, *others: str) -> Program:
    """Boot the machine with the caches that the program needs, and *others*."""
    machine = stage.boot(*CACHES, *others)
    for s_type in (CGROUP2, TMPFS):
        caches_of(machine, s_type)  # raises UsageError now if the machine lacks one of them
    return Program(stage)


@scenario(
    "traced-create",
    "a traced program makes a cgroup, and a task in it makes the first files, which creates the child caches",
    *KNOBS,
)
def traced_create(stage: Stage) -> None:
    traced = program(stage)
    opened: list[File] = []

    async def make(ctx: Context) -> None:
        await traced.age(ctx)
        await do_mkdirat(ctx, traced.jobs, CGROUP)
        await traced.run_child(ctx, make_files)

    async def make_files(ctx: Context) -> None:
        """Make the files and leave them open: in the traced program the tracer is off when they are closed."""
        opened.extend(await traced.make_files(ctx))

    async def clean_up(ctx: Context) -> None:
        for file in opened:
            await fput(ctx, file)
        for name in traced.names:
            await do_unlinkat(ctx, traced.tmpfs, name)
        await ctx.settle()
        await do_rmdir(ctx, traced.jobs, CGROUP)
        await traced.unmount(ctx)

    stage.set_up(traced.mount)
    stage.task("parent", make, cpu=stage.knobs["parent_cpu"])
    stage.wind_up(clean_up)
    stage.sometimes("the cgroup has child caches", lambda: bool(stage.machine.child_caches))
    stage.eventually("no child cache is left", lambda: not stage.machine.child_caches)


def rmdir_scenario(stage: Stage, *, hold: bool) -> None:
    """Set the stage for the part of the program that removes the cgroup."""
    traced = program(stage)

    async def prepare(ctx: Context) -> None:
        await traced.mount(ctx)
        await traced.run_generation(ctx, hold=hold)

    async def remove(ctx: Context) -> None:
        await traced.age(ctx)
        await traced.remove_cgroup(ctx)
        if hold:
            await traced.release(ctx)

    stage.set_up(prepare)
    stage.task("parent", remove, cpu=stage.knobs["parent_cpu"])
    if traced.is_nested:
        stage.wind_up(traced.unmount)
    stage.sometimes("the cgroup is dying", lambda: stage.machine.root_cgroup.nr_dying_descendants > 0)
    stage.eventually("every cgroup is gone", stage.only_session_left)
    stage.eventually("no child cache is left", lambda: not stage.machine.child_caches)


@scenario(
    "traced-rmdir-idle",
    "a traced program removes a cgroup that has no objects left",
    *KNOBS,
)
def traced_rmdir_idle(stage: Stage) -> None:
    rmdir_scenario(stage, hold=False)


@scenario(
    "traced-rmdir-held",
    "a traced program removes a cgroup while it holds one of its files, and releases the file later",
    *KNOBS,
)
def traced_rmdir_held(stage: Stage) -> None:
    rmdir_scenario(stage, hold=True)
