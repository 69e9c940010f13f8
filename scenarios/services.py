"""A host whose services are restarted on timers, each time in a new cgroup, as systemd does (KERNEL.md 12.1).

A starting service allocates the objects of a process, which creates its child caches, and opens shared files of the
host: a few popular ones and many unpopular ones. The first cgroup that opens a file is charged for its dentry and its
inode, and the first one that reads it for its pages. All of these stay after the service has stopped and its cgroup is
removed, until a shrinker or reclaim frees them. So a service leaves objects behind as long as it finds files that were
not opened before, which happens less and less often. It also leaves a file in memory that is removed some time after
the service has stopped: most of these files are gone within the hour, a few stay for days. Now and then the host needs
pages, and kswapd reclaims unused ones.

The six workload parameters are in WORKLOAD. All random choices are drawn in advance from the number of the host and of
the restart, so that both kernels do the same work. The lifetimes are drawn by the golden ratio (a Kronecker sequence).
They follow their law with less variance than independent draws, so that a few hosts give the averages of many.

The host is `unit` times smaller than the host that the parameters describe: one cgroup of the model stands for `unit`
cgroups. It never reaches quiescence; it is stopped after the last day.
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect
from collections.abc import Iterator, Sequence
from functools import partial

import attrs

from actors.api import GFP_KERNEL_ACCOUNT, Context, KmemCache, Machine, SlabObject, kmem_cache_alloc, kmem_cache_free
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.file_table import File, fput
from actors.linux.fs.namei import do_filp_open, do_unlinkat, inode_of
from actors.linux.fs.read_write import vfs_read, vfs_write
from actors.linux.fs.super import DiskInode, SuperBlock, vfs_get_tree
from actors.linux.mm.shmem import TMPFS
from actors.linux.mm.slab import REAPTIMEOUT_AC, start_cpu_timer
from actors.linux.mm.vmscan import SWAP_CLUSTER_MAX, Kswapd
from scenarios.api import Knob, Stage, mkdir, rmdir, run_in, scenario, touch_pages
from scenarios.registry import machine as machine_knobs

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
GOLDEN = (5**0.5 - 1) / 2

YES_NO = ("no", "yes")

SERVICES = 8
"""The number of services that share the restarts; the fastest restarts four times as often as the slowest."""

CAPTURE = "slabinfo-32cpu.txt"
"""A /proc/slabinfo of these caches on a host with 32 CPUs (the sizes and geometry of KERNEL.md 12.4)."""

FILES_ON_DISK = 20_000
"""The number of shared files, of one page each."""

START_NS = 2 * SECOND
"""The time from a service's first allocations, which find no child caches yet, until it opens its files."""

REAP_EVERY, REAP_FOR = 8 * HOUR, 24 * SECOND
"""SLAB's reaper runs every `REAP_EVERY` for `REAP_FOR`, and before each count of the host. A run every two seconds for
days would make nearly all steps of the simulation its own; on an idle CPU of a real host it does not run either."""

PROBE_NS = 300_000_000

DATABASE_PAGES = 1 << 17
"""The memory of a service that is never restarted: so much that kswapd's walk at the lowest pressure finds pages."""

WANTED_PAGES = 32
"""The number of pages that the host needs at a time: as many as this walk finds."""

WORKLOAD = (
    Knob("restarts", "restarts of services a day", 369, most=100_000),
    Knob("popularity", "exponent of the popularity law of shared files (Zipf's), in hundredths", 138, most=1_000),
    Knob("files", "shared files that a service opens when it starts", 7, most=1_000),
    Knob("pin", "half the median lifetime, in minutes, of the files that services leave in memory", 34, least=1),
    Knob("pressure", "minutes after which the host needs pages again", 49, least=1),
    Knob("uptime", "minutes that the host has been up on day 0", 204, least=1),
)
"""The workload parameters: the same for all kernels and allocators."""

PROCESS_CACHES = (
    "dentry",
    "ext4_inode_cache",
    "shmem_inode_cache",
    "proc_inode_cache",
    "sock_inode_cache",
    "inode_cache",
    "filp",
    "cred_jar",
    "pid",
    "vm_area_struct",
    "mm_struct",
    "files_cache",
    "sighand_cache",
    "signal_cache",
    "task_struct",
    "anon_vma",
    "anon_vma_chain",
    "radix_tree_node",
    "fs_cache",
    "eventpoll_epi",
    "eventpoll_pwq",
    "seq_file",
    "kmalloc-8",
    "kmalloc-16",
    "kmalloc-32",
    "kmalloc-64",
    "kmalloc-96",
    "kmalloc-128",
    "kmalloc-192",
    "kmalloc-256",
    "kmalloc-512",
    "kmalloc-1k",
    "kmalloc-2k",
    "kmalloc-4k",
    "kmalloc-8k",
)
"""The caches of a process's objects; the caches of files come first."""


@attrs.frozen
class Plan:
    """One restart: the numbers of the files that the service opens, and the time that it runs (ns)."""

    files: tuple[int, ...]
    runs_for: int


@attrs.frozen
class Service:
    """A service that is restarted every *period* ns on average; its restarts are drawn from *host* and *number*."""

    host: int
    number: int
    period: int
    popularity: Sequence[float]
    files: int

    def plans(self) -> Iterator[Plan]:
        """Yield one restart after the other; the first run is shorter, as the host boots in the middle of it."""
        for restart in itertools.count():
            draw = draws(f"{self.host}/{self.number}/{restart}")
            stretch = next(draw) + (0.5 if restart else 0)
            chosen = (
                bisect(self.popularity, share * self.popularity[-1]) for share in itertools.islice(draw, self.files)
            )
            yield Plan(tuple(chosen), int(self.period * stretch))


def draws(what: str) -> Iterator[float]:
    """Pseudo-random numbers from 0 to 1, a function of *what* alone."""
    for number in itertools.count():
        digest = hashlib.blake2b(f"{what}/{number}".encode(), digest_size=8).digest()
        yield (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def services_of(host: int, restarts: float, popularity: float, files: int) -> list[Service]:
    """The services of a host that has *restarts* restarts a day in total."""
    weights = [2 ** (2 * number / (SERVICES - 1) - 1) for number in range(SERVICES)]
    law = tuple(itertools.accumulate(rank**-popularity for rank in range(1, FILES_ON_DISK + 1)))
    return [
        Service(host, number, int(DAY * sum(weights) / (weight * restarts)), law, files)
        for number, weight in enumerate(weights)
        if restarts
    ]


def lifetimes(host: int, scale: int) -> Iterator[int]:
    """Lifetimes of files in memory (ns): the share that outlives t is scale/t (Pareto's law with exponent 1)."""
    start = next(draws(f"{host}/lifetimes"))
    for number in itertools.count():
        yield int(scale / (1 - (start + number * GOLDEN) % 1))


@attrs.define(eq=False)
class Host:
    """A host with its services and files, and with the tasks that clean up and reclaim."""

    stage: Stage
    machine: Machine
    caches: Sequence[KmemCache]
    lifetimes: Iterator[int]
    kswapd: Sequence[Kswapd]
    mounted: dict[str, SuperBlock] = attrs.field(factory=dict)

    @classmethod
    def boot(cls, stage: Stage) -> Host:
        """The machine, with a kswapd on each node."""
        knobs = stage.knobs
        machine = stage.boot(*PROCESS_CACHES)
        caches = [machine.root_cache(name) for name in PROCESS_CACHES]
        kswapd = [Kswapd.run(machine, nid) for nid in range(knobs["nodes"])]
        return cls(stage, machine, caches, lifetimes(knobs["host"], knobs["pin"] * MINUTE), kswapd)

    async def set_up(self, ctx: Context) -> None:
        """Mount the filesystems, and start the database."""
        for s_type in (EXT4, TMPFS):
            self.mounted[s_type.name] = await vfs_get_tree(ctx, s_type)
        write_disk(self.mounted[EXT4.name])
        database = await mkdir(ctx, self.machine.root_cgroup, "database")
        await run_in(ctx, database, partial(grow, nr_pages=DATABASE_PAGES))

    async def restart(self, ctx: Context, service: Service) -> None:
        """Restart one service again and again, each time in a new cgroup, as systemd does."""
        for number, plan in enumerate(service.plans()):
            name = f"service{service.number}.{number}"
            cgroup = await mkdir(ctx, self.machine.root_cgroup, name)
            await ctx.migrate(self.machine.cpus[(service.number + number) % len(self.machine.cpus)])
            await run_in(ctx, cgroup, partial(self.serve, plan=plan, name=name))
            await rmdir(ctx, cgroup)
            self.clean_up_later(ctx, name)

    async def serve(self, ctx: Context, plan: Plan, name: str) -> None:
        """One run of a service in its cgroup; its child caches exist before it opens its files."""
        process = await make_process(ctx, self.caches)
        await ctx.sleep(START_NS)
        opened = await open_shared(ctx, self.mounted[EXT4.name], plan.files)
        await leave_file(ctx, self.mounted[TMPFS.name], name)
        await ctx.sleep(plan.runs_for)
        for file in opened:
            await fput(ctx, file)
        for cache, obj in process:
            await kmem_cache_free(ctx, cache, obj)

    def clean_up_later(self, ctx: Context, name: str) -> None:
        """Start a task that removes the file a service has left, when its lifetime is over."""
        life = next(self.lifetimes)

        async def remove(ctx: Context) -> None:
            await ctx.sleep(life)
            await do_unlinkat(ctx, self.mounted[TMPFS.name].root, name)

        self.machine.start(self.machine.new_task(f"remove {name}", ctx.smp_processor_id), remove)

    async def want_pages(self, ctx: Context) -> None:
        """Make memory short now and then, for ever, and wake up kswapd."""
        while True:
            await ctx.sleep(self.stage.knobs["pressure"] * MINUTE)
            await grow(ctx, WANTED_PAGES)
            for thread in self.kswapd:
                await ctx.ask(thread.wake_up, WANTED_PAGES)

    async def reap(self, ctx: Context) -> None:
        """Let SLAB's reaper run now and then, for ever, as it does when the CPUs are busy."""
        while True:
            await ctx.sleep(REAP_EVERY)
            await self.let_reap(ctx)

    async def let_reap(self, ctx: Context) -> None:
        """Let SLAB's reaper run for a while on every CPU, unless it is running already."""
        if self.machine.config.allocator != "slab" or self.machine.is_reaping:
            return
        self.machine.is_reaping = True
        for cpu in self.machine.cpus:
            start_cpu_timer(self.machine, cpu.id)
        if self.stage.knobs["probe"] == "yes":
            self.machine.start(self.machine.new_task("probe", len(self.machine.cpus) - 1), self.probe)
        await ctx.sleep(REAP_FOR)
        self.machine.is_reaping = False
        await ctx.sleep(2 * REAPTIMEOUT_AC)

    async def probe(self, ctx: Context) -> None:
        """A service without files that is restarted whenever a walk of the reaper begins, to contend with the walk."""
        for number in itertools.count():
            if not self.machine.is_reaping:
                return
            cgroup = await mkdir(ctx, self.machine.root_cgroup, f"probe{self.machine.world.now}.{number}")
            await ctx.sleep(max(PROBE_NS, self.next_walk() - self.machine.world.now))
            await run_in(ctx, cgroup, self.live_briefly)
            await rmdir(ctx, cgroup)

    def next_walk(self) -> int:
        """The time of the reaper's next run (ns)."""
        return min((time for base in self.machine.timer_bases for time, _ in base.timers), default=0)

    async def live_briefly(self, ctx: Context) -> None:
        """One run of the probe."""
        process = await make_process(ctx, self.caches)
        await ctx.sleep(PROBE_NS)
        for cache, obj in process:
            await kmem_cache_free(ctx, cache, obj)

    async def count(self, ctx: Context) -> None:
        """Sample once a day, and stop the world after the last day."""
        for day in range(self.stage.knobs["days"] + 1):
            await ctx.sleep(DAY if day else self.stage.knobs["uptime"] * MINUTE)
            await self.let_reap(ctx)
            self.stage.sample(f"day {day}")
        self.stage.world.stop("simulated")


@scenario(
    "services",
    "a host whose services are restarted on timers, each time in a new cgroup",
    *WORKLOAD,
    Knob("days", "days that are simulated, from day 0 on", 7, most=1_000),
    Knob("unit", "cgroups of a real host that one cgroup of the model stands for", 5, least=1),
    Knob("host", "number of the host, the seed of all random choices", 0, most=(1 << 64) - 1),
    Knob("probe", "whether one more service is restarted with each walk of SLAB's reaper", "no", choices=YES_NO),
    *machine_knobs(slabinfo=CAPTURE),
)
def services(stage: Stage) -> None:
    knobs = stage.knobs
    host = Host.boot(stage)
    stage.set_up(host.set_up)
    restarts = knobs["restarts"] / knobs["unit"]
    for service in services_of(knobs["host"], restarts, knobs["popularity"] / 100, knobs["files"]):
        stage.task(f"systemd/{service.number}", partial(host.restart, service=service), cpu=service.number)
    stage.task("pressure", host.want_pages)
    stage.task("count", host.count, cpu=1)
    if knobs["allocator"] == "slab":
        host.machine.is_reaping = False
        stage.task("reap", host.reap)


def write_disk(sb: SuperBlock, files: int = FILES_ON_DISK, pages: int = 1) -> None:
    """Put files named by numbers on the disk, of *pages* pages each, as if they had been there before the boot."""
    directory, _ = inode_of(sb.root)
    entries = sb.disk[directory.i_ino].entries
    assert entries is not None, "the root is a directory"
    for rank in range(files):
        sb.last_ino += 1
        sb.disk[sb.last_ino] = DiskInode(None, size=pages)
        entries[str(rank)] = sb.last_ino


async def grow(ctx: Context, nr_pages: int) -> None:
    """Give the task memory of its own, charged to its cgroup.

    From 6.12 on it consists of folios, and reclaim takes a whole one at a time: as much as it asks for.
    """
    at_once = SWAP_CLUSTER_MAX if ctx.machine.is_without_child_caches else nr_pages
    for _ in range(0, nr_pages, at_once):
        await touch_pages(ctx, ctx.memcg or ctx.machine.root_mem_cgroup, at_once)


async def make_process(ctx: Context, caches: Sequence[KmemCache]) -> list[tuple[KmemCache, SlabObject]]:
    """Allocate an object of each of *caches*, charged to the task's cgroup."""
    made = [(cache, await kmem_cache_alloc(ctx, cache, GFP_KERNEL_ACCOUNT)) for cache in caches]
    return [(cache, obj) for cache, obj in made if obj is not None]


async def open_shared(ctx: Context, sb: SuperBlock, ranks: Sequence[int]) -> list[File]:
    """Open shared files, and read them."""
    opened: list[File] = []
    for rank in ranks:
        file = await do_filp_open(ctx, sb.root, str(rank))
        if file is not None:
            await vfs_read(ctx, file)
            opened.append(file)
    return opened


async def leave_file(ctx: Context, sb: SuperBlock, name: str) -> None:
    """Make a file in memory, with one page."""
    file = await do_filp_open(ctx, sb.root, name, creat=True)
    if file is not None:
        await vfs_write(ctx, file, 1)
        await fput(ctx, file)
