"""A host whose services are restarted on timers, each time in a new cgroup, as systemd does (KERNEL.md 12.1).

A service that starts makes the objects that a process is made of, which has its child caches created, and opens shared
files of the host: some that everybody opens, many that hardly anybody does. Whoever opens a file first is charged for
its dentry and its inode, and whoever reads it first for its pages; all of these stay when the service stops and its
cgroup is removed, until a shrinker or reclaim takes them. So a new service leaves something behind as long as there
are files that nobody has opened yet, and ever more seldom. It also leaves a file in memory that is removed some time
after it has stopped: most are gone within the hour, a few stay for days. Now and then the host wants pages, and kswapd
takes those that nobody uses.

The six workload parameters are those of WORKLOAD. Everything is drawn beforehand, by the number of the host and of the
restart, so that both kernels do the same work; the lifetimes by the golden ratio (a Kronecker sequence), which is as
random as the law wants it and no more, so that few hosts do for many.

The host is `unit` times smaller than the one that the parameters describe: a cgroup of the model stands for so many.
It never comes to rest; it is stopped after the last day.
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
from actors.linux.mm.vmscan import Kswapd
from scenarios.api import Knob, Stage, mkdir, rmdir, run_in, scenario, touch_pages
from scenarios.registry import machine as machine_knobs

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
GOLDEN = (5**0.5 - 1) / 2

YES_NO = ("no", "yes")

SERVICES = 8
"""So many services share the restarts; the most restless is restarted four times as often as the calmest."""

CAPTURE = "slabinfo-32cpu.txt"
"""What /proc/slabinfo says of those caches on a host with 32 CPUs (the sizes and geometry of KERNEL.md 12.4)."""

FILES_ON_DISK = 20_000
"""The shared files that there are, of one page each."""

START_NS = 2 * SECOND
"""From its first allocations, which find no child caches yet, to its files."""

REAP_EVERY, REAP_FOR = 8 * HOUR, 24 * SECOND
"""SLAB's reaper runs for so long each time, and before the host is counted: on an idle CPU it does not come, and if it
came every two seconds for days there would hardly be a step that is not its."""

PROBE_NS = 300_000_000

DATABASE_PAGES = 1 << 17
"""The memory of a service that is never restarted; there is so much of it that kswapd's gentlest walk finds some."""

WANTED_PAGES = 32
"""How many pages the host wants when it wants some: what that walk finds."""

WORKLOAD = (
    Knob("restarts", "restarts of services a day", 369, most=100_000),
    Knob("popularity", "exponent of the popularity law of shared files (Zipf's), in hundredths", 138, most=1_000),
    Knob("files", "shared files that a service opens when it starts", 7, most=1_000),
    Knob("pin", "half of the files that services leave in memory live longer than twice so many minutes", 34, least=1),
    Knob("pressure", "minutes after which the host wants pages again", 49, least=1),
    Knob("uptime", "minutes for which the host has been up on day 0", 204, least=1),
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
"""The caches that a process charges objects to; those of files first."""


@attrs.frozen
class Plan:
    """What one restart does: the numbers of the files that it opens, and how long it runs (ns)."""

    files: tuple[int, ...]
    runs_for: int


@attrs.frozen
class Service:
    """A service that is restarted every *period* ns on the average; restart *n* is drawn from *host* and that."""

    host: int
    number: int
    period: int
    popularity: Sequence[float]
    files: int

    def plans(self) -> Iterator[Plan]:
        """One restart after the other; the host has booted some time during the first run."""
        for restart in itertools.count():
            draw = draws(f"{self.host}/{self.number}/{restart}")
            stretch = next(draw) + (0.5 if restart else 0)
            chosen = (
                bisect(self.popularity, share * self.popularity[-1]) for share in itertools.islice(draw, self.files)
            )
            yield Plan(tuple(chosen), int(self.period * stretch))


def draws(what: str) -> Iterator[float]:
    """Numbers from 0 to 1, as if by chance; always the same for the same *what*."""
    for number in itertools.count():
        digest = hashlib.blake2b(f"{what}/{number}".encode(), digest_size=8).digest()
        yield (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def services_of(host: int, restarts: float, popularity: float, files: int) -> list[Service]:
    """The services of a host that has so many *restarts* a day."""
    weights = [2 ** (2 * number / (SERVICES - 1) - 1) for number in range(SERVICES)]
    law = tuple(itertools.accumulate(rank**-popularity for rank in range(1, FILES_ON_DISK + 1)))
    return [
        Service(host, number, int(DAY * sum(weights) / (weight * restarts)), law, files)
        for number, weight in enumerate(weights)
        if restarts
    ]


def lifetimes(host: int, scale: int) -> Iterator[int]:
    """How long files in memory stay (ns): the share that outlives t is scale/t (Pareto's law with exponent 1)."""
    start = next(draws(f"{host}/lifetimes"))
    for number in itertools.count():
        yield int(scale / (1 - (start + number * GOLDEN) % 1))


@attrs.define(eq=False)
class Host:
    """A host with its services, its files, and whoever cleans up and reclaims."""

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
        """What systemd does for one service, for ever."""
        for number, plan in enumerate(service.plans()):
            name = f"service{service.number}.{number}"
            cgroup = await mkdir(ctx, self.machine.root_cgroup, name)
            await ctx.migrate(self.machine.cpus[(service.number + number) % len(self.machine.cpus)])
            await run_in(ctx, cgroup, partial(self.serve, plan=plan, name=name))
            await rmdir(ctx, cgroup)
            self.clean_up_later(ctx, name)

    async def serve(self, ctx: Context, plan: Plan, name: str) -> None:
        """One run of a service, in its cgroup: by the time that it opens its files it has its child caches."""
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
        """Have the file that a service has left removed when its time has come."""
        life = next(self.lifetimes)

        async def remove(ctx: Context) -> None:
            await ctx.sleep(life)
            await do_unlinkat(ctx, self.mounted[TMPFS.name].root, name)

        self.machine.start(self.machine.new_task(f"remove {name}", ctx.smp_processor_id), remove)

    async def want_pages(self, ctx: Context) -> None:
        """Memory gets short now and then, for ever."""
        while True:
            await ctx.sleep(self.stage.knobs["pressure"] * MINUTE)
            await grow(ctx, WANTED_PAGES)
            for thread in self.kswapd:
                await ctx.ask(thread.wake_up, WANTED_PAGES)

    async def reap(self, ctx: Context) -> None:
        """Now and then the CPUs are busy, so that SLAB's reaper comes; for ever."""
        while True:
            await ctx.sleep(REAP_EVERY)
            await self.let_reap(ctx)

    async def let_reap(self, ctx: Context) -> None:
        """Let SLAB's reaper run for a while on every CPU, unless it does."""
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
        """A service that opens no files, and is restarted whenever a walk of the reaper begins, to get into its way."""
        for number in itertools.count():
            if not self.machine.is_reaping:
                return
            cgroup = await mkdir(ctx, self.machine.root_cgroup, f"probe{self.machine.world.now}.{number}")
            await ctx.sleep(max(PROBE_NS, self.next_walk() - self.machine.world.now))
            await run_in(ctx, cgroup, self.live_briefly)
            await rmdir(ctx, cgroup)

    def next_walk(self) -> int:
        """When the reaper comes next (ns)."""
        return min((time for base in self.machine.timer_bases for time, _ in base.timers), default=0)

    async def live_briefly(self, ctx: Context) -> None:
        """One run of that."""
        process = await make_process(ctx, self.caches)
        await ctx.sleep(PROBE_NS)
        for cache, obj in process:
            await kmem_cache_free(ctx, cache, obj)

    async def count(self, ctx: Context) -> None:
        """Count once a day, and stop after the last one."""
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
    Knob("unit", "how many cgroups of a real host one of the model stands for", 5, least=1),
    Knob("host", "the number of the host, from which everything is drawn", 0, most=1 << 64),
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


def write_disk(sb: SuperBlock) -> None:
    """The shared files stand on the disk since before the boot."""
    directory, _ = inode_of(sb.root)
    entries = sb.disk[directory.i_ino].entries
    assert entries is not None, "the root is a directory"
    for rank in range(FILES_ON_DISK):
        sb.last_ino += 1
        sb.disk[sb.last_ino] = DiskInode(None, size=1)
        entries[str(rank)] = sb.last_ino


async def grow(ctx: Context, nr_pages: int) -> None:
    """The task gets memory of its own, charged to its cgroup."""
    await touch_pages(ctx, ctx.memcg or ctx.machine.root_mem_cgroup, nr_pages)


async def make_process(ctx: Context, caches: Sequence[KmemCache]) -> list[tuple[KmemCache, SlabObject]]:
    """An object of each of *caches*, charged to the cgroup."""
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
