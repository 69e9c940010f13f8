"""Helpers of the VFS tests: tiny machines with filesystems, and a storm of tasks that use them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import attrs

from actors.linux.fs.dcache import Dentry, dput
from actors.linux.fs.drop_caches import drop_caches_sysctl_handler
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.file_table import File, fput
from actors.linux.fs.fs_writeback import sync_inodes_sb
from actors.linux.fs.namei import do_filp_open, do_mkdirat, do_unlinkat, filename_lookup
from actors.linux.fs.namespace import do_remount
from actors.linux.fs.read_write import vfs_read, vfs_write
from actors.linux.fs.super import FileSystemType, SuperBlock, vfs_get_tree
from actors.linux.init.machine import Config, Machine
from actors.linux.kernel.cgroup.cgroup import Cgroup, memcg_of
from actors.linux.mm.list_lru import ListLruOne, LruList
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.shmem import TMPFS
from actors.linux.mm.slab import REAPTIMEOUT_AC
from actors.linux.mm.vmscan import Kswapd, try_to_free_pages
from actors.machine.context import Context
from actors.machine.gfp import GFP_KERNEL
from actors.oracles.ledger import Ledger
from actors.system.stepper import run_stepper
from actors.system.strategy import InTurn, Strategy
from actors.system.world import World
from actors.versions.kernel_fn import functions
from actors.versions.patching import make_patch
from actors.versions.user_code import read_code
from protocol.formats.slabinfo import SlabinfoRow
from protocol.records import PatchRecord
from scenarios.stage import REAP_ROUNDS, enter, mkdir, rmdir

SECOND = 1_000_000_000
ROWS = (
    SlabinfoRow("filp", 0, 0, 256, 4, 1),
    SlabinfoRow("dentry", 0, 0, 192, 4, 1),
    SlabinfoRow("shmem_inode_cache", 0, 0, 688, 4, 1),
    SlabinfoRow("ext4_inode_cache", 0, 0, 1008, 4, 1),
)
"""The caches of files, with slabs of four objects, so that they are soon full."""

SOUND = ("original", "5.3", "5.4-fixed")
"""The released kernels; the flaws of the other ones do not concern files."""


FLUSHED_TWICE = "accounting:slab_reclaimable too high:"
"""5.3's known flaw at each offline: memcg_flush_percpu_vmstats() adds deltas without clearing them (KERNEL.md 9.4)."""


@attrs.define(eq=False, repr=False)
class Lab:
    """A machine with a session cgroup and both kinds of filesystem, for one test."""

    machine: Machine
    ledger: Ledger
    session: Cgroup = attrs.field(init=False)
    tmpfs: SuperBlock = attrs.field(init=False)
    ext4: SuperBlock = attrs.field(init=False)

    @property
    def world(self) -> World:
        return self.machine.world

    async def set_up(self, ctx: Context) -> None:
        """Mount, and keep kmem accounting on."""
        self.session = await mkdir(ctx, self.machine.root_cgroup, "session")
        self.tmpfs = await vfs_get_tree(ctx, TMPFS)
        self.ext4 = await vfs_get_tree(ctx, EXT4)
        await rest(ctx)

    def mounted(self, s_type: FileSystemType) -> SuperBlock:
        return self.tmpfs if s_type is TMPFS else self.ext4

    def signatures(self) -> list[str]:
        """The signatures of all findings except the known flaw of 5.3's statistics."""
        known = {FLUSHED_TWICE} if self.machine.config.kernel == "5.3" else set()
        return sorted(set(self.world.findings) - known)


Story = Callable[[Context, Lab], Awaitable[None]]


def make_lab(
    *,
    kernel: str = "5.3",
    strategy: Strategy | None = None,
    rows: Iterable[SlabinfoRow] = ROWS,
    patch: Path | None = None,
    **config: Any,
) -> Lab:
    """A lab whose machine is booted and has made no step yet."""
    patches = (
        [] if patch is None else [make_patch(read_code(PatchRecord, patch), kernel, config.get("allocator", "slub"))]
    )
    machine = Machine(World(strategy or InTurn()), Config(kernel=kernel, **config), rows=rows, patches=patches)
    lab = Lab(machine, Ledger(machine))
    machine.check_child = lab.ledger.check_child
    machine.world.rests.append(lab.ledger.check_at_rest)
    machine.world.endings.append(lab.ledger.check_quiescent)
    return lab


def run(story: Story, **options: Any) -> Lab:
    """Run *story* as one task on a new machine, to quiescence."""
    return run_all(story, **options)


def run_all(*stories: Story, **options: Any) -> Lab:
    """Run each of *stories* as a task of its own, all at once."""
    lab = make_lab(**options)

    async def direct(ctx: Context) -> None:
        await lab.set_up(ctx)
        for number, story in enumerate(stories):
            start(lab, f"task{number}", story, cpu=number)
        if lab.machine.config.allocator == "slab":
            await let_reaper_work(ctx, lab)

    lab.machine.start(lab.machine.new_task("direct", 0), direct)
    run_stepper(lab.world)
    return lab


def start(lab: Lab, name: str, story: Story, *, cpu: int = 0) -> None:
    """Start one more task."""
    task = lab.machine.new_task(name, cpu % len(lab.machine.cpus))
    lab.machine.start(task, lambda ctx: story(ctx, lab))


async def let_reaper_work(ctx: Context, lab: Lab) -> None:
    """SLAB frees its unused objects and slabs a few at a time: let enough virtual time pass."""
    for _ in range(REAP_ROUNDS):
        await ctx.settle()
        if not lab.ledger.is_anything_left():
            return
        await ctx.sleep(REAPTIMEOUT_AC)


async def rest(ctx: Context) -> None:
    """Sleep long enough for all pending work to finish."""
    await ctx.sleep(SECOND)


# -- operations of tasks ----------------------------------------------------------------------------------------------


async def touch(ctx: Context, sb: SuperBlock, *names: str) -> None:
    """Make files, and close them."""
    for name in names:
        file = await do_filp_open(ctx, sb.root, name, creat=True)
        assert file is not None
        await fput(ctx, file)


async def open_file(ctx: Context, sb: SuperBlock, name: str) -> File:
    """Open a file that exists."""
    file = await do_filp_open(ctx, sb.root, name)
    assert file is not None
    return file


async def stat(ctx: Context, sb: SuperBlock, *names: str) -> None:
    """Look files up, without opening them."""
    for name in names:
        await dput(ctx, await filename_lookup(ctx, sb.root, name))


async def in_cgroup(ctx: Context, lab: Lab, cgroup: Cgroup, *names: str, s_type: FileSystemType = EXT4) -> None:
    """Make files in *cgroup*, allocated from its child caches, and write them to the disk."""
    await enter(ctx, cgroup)
    await touch(ctx, lab.mounted(s_type), f"warm up {cgroup.name}")
    await rest(ctx)
    await touch(ctx, lab.mounted(s_type), *names)
    await enter(ctx, lab.machine.root_cgroup)
    await sync_inodes_sb(ctx, lab.ext4)
    await rest(ctx)


async def drop(ctx: Context, value: int) -> None:
    """Echo *value* > drop_caches, and wait for the RCU frees."""
    await drop_caches_sysctl_handler(ctx, value)
    await rest(ctx)


async def removed(ctx: Context, cgroup: Cgroup) -> None:
    """Remove *cgroup*, and wait until all work that follows is done."""
    await rmdir(ctx, cgroup)
    await rest(ctx)


# -- state for assertions ---------------------------------------------------------------------------------------------


def dentry_of(sb: SuperBlock, name: str) -> Dentry:
    """The dentry that a lookup in the root directory would find."""
    return sb.dentry_hash[sb.root, name]


def names_in_cache(sb: SuperBlock) -> set[str]:
    """The names that have a dentry, negative ones too."""
    return {name for _, name in sb.dentry_hash}


def lru_names(one: LruList) -> list[str]:
    """The names of the dentries on a list, oldest first."""
    found = [item.container for item in one.items]
    return [dentry.d_name for dentry in found if isinstance(dentry, Dentry)]


def list_of(sb: SuperBlock, memcg: Memcg | None, nid: int = 0) -> ListLruOne:
    """The list of dentries that reclaim scans for *memcg* now."""
    node = sb.s_dentry_lru.nodes[nid]
    idx = -1 if memcg is None else memcg.kmemcg_id
    return node.lru if idx < 0 else node.memcg_lrus.lru[idx]


def memcg(cgroup: Cgroup) -> Memcg:
    """The memcg of a cgroup."""
    return memcg_of(cgroup.css)


@attrs.define
class Tracer:
    """Like ftrace's function tracer: the entries into the traced functions, in order, with a note on each."""

    entered: list[str] = attrs.field(factory=list)
    notes: list[object] = attrs.field(factory=list)

    def trace(self, machine: Machine, *names: str, note: Callable[..., object] = lambda _ctx, *_args: None) -> None:
        """Record every entry of these functions from now on; *note* gets the arguments of the function."""
        for name in names:
            function = functions()[name]
            machine.functions[function] = self._traced(name, machine.functions[function], note)

    def _traced(self, name: str, code: Callable[..., Any], note: Callable[..., object]) -> Callable[..., Any]:
        async def traced(ctx: Context, *args: Any, **kwargs: Any) -> Any:
            self.entered.append(name)
            self.notes.append(note(ctx, *args))
            return await code(ctx, *args, **kwargs)

        return traced


# -- the storm --------------------------------------------------------------------------------------------------------

NAMES = ("a", "b", "c")


def stormy(rounds: int, *, s_type: FileSystemType = EXT4, limit: int | None = None) -> Story:
    """A task that does *rounds* file operations, each chosen by the strategy, in a child of a cgroup of its own."""

    async def story(ctx: Context, lab: Lab) -> None:
        sb = lab.mounted(s_type)
        parent = await mkdir(ctx, lab.machine.root_cgroup, f"parent of {ctx.name}")
        cgroup = await mkdir(ctx, parent, f"storm {ctx.name}")
        memcg(parent).memory.max = limit
        await enter(ctx, cgroup)
        await do_mkdirat(ctx, sb.root, "d")
        held: list[File] = []
        for _ in range(rounds):
            await somewhere(ctx, sb, held)
        for file in held:
            await fput(ctx, file)
        await enter(ctx, lab.machine.root_cgroup)
        await rmdir(ctx, cgroup)
        await rmdir(ctx, parent)

    return story


async def somewhere(ctx: Context, sb: SuperBlock, held: list[File]) -> None:
    """Do one operation in the root directory or in its subdirectory."""
    if await ctx.choose(2):
        await do_something(ctx, sb.root, held)
    elif (directory := await filename_lookup(ctx, sb.root, "d")) is not None:
        await do_something(ctx, directory, held)
        await dput(ctx, directory)


async def do_something(ctx: Context, directory: Dentry, held: list[File]) -> None:
    """Do one operation, with a name that other tasks use as well."""
    name = NAMES[await ctx.choose(len(NAMES))]
    match await ctx.choose(9):
        case 0 | 1:
            file = await do_filp_open(ctx, directory, name, creat=True)
            held += [file] if file is not None else []
        case 2:
            file = await do_filp_open(ctx, directory, name)
            held += [file] if file is not None else []
        case 3:
            await do_unlinkat(ctx, directory, name)
        case 4 if held:
            await vfs_write(ctx, held[0], 1)
        case 5 if held:
            await vfs_read(ctx, held[0])
        case 6:
            await sync_inodes_sb(ctx, directory.d_sb)
        case 7 | 8 if held:
            await fput(ctx, held.pop())
        case _:
            await dput(ctx, await filename_lookup(ctx, directory, name))


def shrinking(rounds: int, *, s_type: FileSystemType = EXT4) -> Story:
    """A task that starts every kind of reclaim, *rounds* times."""

    async def story(ctx: Context, lab: Lab) -> None:
        kswapds = [Kswapd.run(lab.machine, nid) for nid in range(lab.machine.config.nodes)]
        for _ in range(rounds):
            match await ctx.choose(6):
                case 0 | 1 | 2 as value:
                    await drop_caches_sysctl_handler(ctx, value + 1)
                case 3:
                    await do_remount(ctx, lab.mounted(s_type))
                case 4:
                    await try_to_free_pages(ctx, GFP_KERNEL)
                case _:
                    await ctx.ask(kswapds[await ctx.choose(len(kswapds))].wake_up, 8)

    return story


def signatures_of(runs: Iterable[Lab]) -> Counter[str]:
    """The number of *runs* with each signature."""
    found: Counter[str] = Counter()
    for lab in runs:
        found.update(lab.signatures())
    return found
