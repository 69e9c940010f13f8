"""Races over pages of the page cache while the cgroup that they are charged to is removed, from 6.12 on.

KERNEL-today 10, 11, 27.9 to 27.11; KERNEL-7.2 N6.6. A page is on the LRU list of its memcg and node, or isolated by one
task, or in a batch. On 6.12 it keeps its memcg; from 7.2 on, removal gives the lists to the parent meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from actors.api import GFP_KERNEL, Cgroup, Context, Machine, deref
from actors.linux.fs.ext4 import EXT4
from actors.linux.fs.file_table import File, fput
from actors.linux.fs.inode import Inode
from actors.linux.fs.namei import do_filp_open, do_unlinkat
from actors.linux.fs.read_write import vfs_read
from actors.linux.fs.super import SuperBlock, vfs_get_tree
from actors.linux.include.swap import lru_add_drain, lru_add_drain_all, put_page, try_to_free_mem_cgroup_pages
from actors.linux.kernel.cgroup.cgroup import cgroup_attach_task, css_put, memcg_of
from actors.linux.mm.filemap import Page
from actors.linux.mm.memcg_folio import count_memcg_folio_events, get_mem_cgroup_from_folio
from actors.linux.mm.migrate import migrate_misplaced_folio
from actors.linux.mm.vmscan import folio_isolate_lru, folio_putback_lru
from actors.versions.profiles import WITHOUT_CHILD_CACHES
from scenarios.api import (
    MACHINE,
    RCU,
    Knob,
    Stage,
    charge_elsewhere,
    machine,
    mkdir,
    rmdir,
    run_in,
    scenario,
    small_cache,
)
from scenarios.objcgs import REMOVAL, kill
from scenarios.services import write_disk
from scenarios.shared_dentry import forget_names

CACHES = ("filp", "dentry", "ext4_inode_cache")
PAGES = Knob("pages", "pages of the file", 2, least=1, most=100)
NAME = "0"


@attrs.define(eq=False)
class Cached:
    """A file of `pages` pages that a cgroup below another was first to read; the cgroups, the inner one first."""

    stage: Stage
    machine: Machine
    cgroups: list[Cgroup] = attrs.field(factory=list)
    sb: list[SuperBlock] = attrs.field(factory=list)
    files: list[File] = attrs.field(factory=list)

    @classmethod
    def of(cls, stage: Stage) -> Cached:
        return cls(stage, stage.boot(caches=[small_cache(name) for name in CACHES]))

    async def make(self, ctx: Context, *, reads_on: int | None = 0) -> None:
        """Make the cgroups and the file, and read it on this CPU, or not at all; then the batches are emptied."""
        parent = await mkdir(ctx, self.machine.root_cgroup, "parent")
        self.cgroups.extend([await mkdir(ctx, parent, "job"), parent])
        sb = await vfs_get_tree(ctx, EXT4)
        self.sb.append(sb)
        write_disk(sb, 1, self.stage.knobs["pages"])
        self.files.extend(filter(None, [await do_filp_open(ctx, sb.root, NAME)]))
        if reads_on is not None:
            await ctx.migrate(ctx.machine.cpus[reads_on])
            await run_in(ctx, self.cgroups[0], self.read)
            await ctx.migrate(ctx.machine.cpus[0])
            await lru_add_drain_all(ctx)
            await charge_elsewhere(ctx, self.stage.session)

    async def read(self, ctx: Context) -> None:
        for file in self.files:
            await vfs_read(ctx, file)

    @property
    def inode(self) -> Inode:
        return deref(self.files[0].dentry.d_inode, "file->f_inode")

    async def pages(self, ctx: Context) -> list[Page]:
        """find_get_pages(): the pages of the file, with a reference each."""
        return [page for page in await ctx.ask(self.inode.list_pages) if await ctx.ask(page.get)]

    async def for_each(self, ctx: Context, use: Callable[[Context, Page], Awaitable[None]]) -> None:
        """Use each page of the file, and drop the reference to it."""
        for page in await self.pages(ctx):
            await use(ctx, page)
            await put_page(ctx, page)

    def remove(self) -> None:
        """Add a task that removes the inner cgroup."""
        self.stage.task("rmdir", lambda ctx: rmdir(ctx, self.cgroups[0]))

    def end(self) -> None:
        """Let go of everything at the end; and what a run should have met."""

        async def let_go(ctx: Context) -> None:
            for file in self.files:
                await fput(ctx, file)
            await lru_add_drain_all(ctx)
            await forget_names(ctx, self.sb[0])
            for cgroup in self.cgroups[1:]:
                await rmdir(ctx, cgroup)
            await charge_elsewhere(ctx, self.stage.session)

        self.stage.wind_up(let_go)
        self.stage.sometimes("a page is cached when its cgroup is offline", self.outlives)
        self.stage.eventually("every cgroup is gone", self.stage.only_session_left)

    def outlives(self) -> bool:
        cgroup = self.cgroups[0] if self.cgroups else None
        is_offline = cgroup is not None and cgroup.is_dead and not cgroup.css.is_online
        inode = self.files[0].dentry.d_inode if self.files else None
        return is_offline and inode is not None and bool(inode.i_pages)


async def isolate_and_put_back(ctx: Context, page: Page) -> None:
    """As migration does that fails."""
    if await folio_isolate_lru(ctx, page):
        await folio_putback_lru(ctx, page)


@scenario(
    "isolate-vs-reparent",
    "pages of a file are taken off their LRU list and put back while their cgroup is removed",
    PAGES,
    Knob("rounds", "how often each page is taken off", 1, least=1, most=16),
    REMOVAL,
    RCU,
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def isolate_vs_reparent(stage: Stage) -> None:
    cached = Cached.of(stage)
    is_removed_before = stage.knobs["removal"] == "before"

    async def make(ctx: Context) -> None:
        await cached.make(ctx)
        if is_removed_before:
            await kill(ctx, cached.cgroups[0])

    async def isolate(ctx: Context) -> None:
        for _ in range(stage.knobs["rounds"]):
            await cached.for_each(ctx, isolate_and_put_back)
            await lru_add_drain(ctx)

    stage.set_up(make, settles=not is_removed_before)
    if not is_removed_before:
        cached.remove()
    stage.task("isolate", isolate, cpu=1)
    cached.end()


@scenario(
    "reclaim-vs-reparent",
    "the pages of a cgroup are reclaimed for its parent, and the file is removed, while the cgroup is removed",
    PAGES,
    Knob("used", "pages that somebody else uses, so that reclaim puts them back", 1, least=0, most=100),
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def reclaim_vs_reparent(stage: Stage) -> None:
    cached = Cached.of(stage)
    used: list[Page] = []

    async def make(ctx: Context) -> None:
        await cached.make(ctx)
        pages = await cached.pages(ctx)
        used.extend(pages[: stage.knobs["used"]])
        for page in pages[stage.knobs["used"] :]:
            await put_page(ctx, page)

    async def reclaim(ctx: Context) -> None:
        await try_to_free_mem_cgroup_pages(ctx, memcg_of(cached.cgroups[1].css), 1, GFP_KERNEL)

    async def stop_using(ctx: Context) -> None:
        """Remove the file, whose pages go when nobody uses them any more."""
        await do_unlinkat(ctx, cached.sb[0].root, NAME)
        for page in used:
            await put_page(ctx, page)

    stage.set_up(make)
    cached.remove()
    stage.task("reclaim", reclaim, cpu=1)
    stage.task("unlink", stop_using)
    cached.end()


@scenario(
    "batch-vs-reparent",
    "pages that wait in the batch of a CPU go to their LRU list while their cgroup is removed",
    PAGES,
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def batch_vs_reparent(stage: Stage) -> None:
    cached = Cached.of(stage)

    async def make(ctx: Context) -> None:
        """Let the cgroup read the file on the last CPU, whose batch has the pages afterwards."""
        await cached.make(ctx, reads_on=None)
        await ctx.migrate(ctx.machine.cpus[-1])
        await run_in(ctx, cached.cgroups[0], cached.read)
        await ctx.migrate(ctx.machine.cpus[0])
        await charge_elsewhere(ctx, stage.session)

    async def isolate(ctx: Context) -> None:
        await cached.for_each(ctx, isolate_and_put_back)

    stage.set_up(make)
    cached.remove()
    stage.task("drain", lru_add_drain, cpu=stage.knobs["cpus"] - 1)
    stage.task("isolate", isolate)
    cached.end()


async def count(ctx: Context, page: Page) -> None:
    """As for a page that comes back from swap."""
    await count_memcg_folio_events(ctx, page, "pswpin", 1)


async def get_and_put(ctx: Context, page: Page) -> None:
    """As for buffers, which are charged to the memcg of the page that they belong to."""
    memcg = await get_mem_cgroup_from_folio(ctx, page)
    await css_put(ctx, memcg.css)


USES: dict[str, Callable[[Context, Page], Awaitable[None]]] = {"event": count, "get": get_and_put}


@scenario(
    "folio-memcg-vs-rmdir",
    "the memcg of a page is found by way of the page, and used, while it is removed",
    PAGES,
    Knob("use", "what is done with it: an event is counted, or a reference is taken", "event", choices=tuple(USES)),
    REMOVAL,
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def folio_memcg_vs_rmdir(stage: Stage) -> None:
    cached = Cached.of(stage)

    async def make(ctx: Context) -> None:
        await cached.make(ctx)
        if stage.knobs["removal"] == "before":
            await kill(ctx, cached.cgroups[0])

    stage.set_up(make, settles=stage.knobs["removal"] == "race")
    if stage.knobs["removal"] == "race":
        cached.remove()
    stage.task("use", lambda ctx: cached.for_each(ctx, USES[stage.knobs["use"]]), cpu=1)
    cached.end()


@scenario(
    "refault-vs-rmdir",
    "a task reads pages that reclaim had taken; it is moved meanwhile, and its old cgroup is removed",
    PAGES,
    *MACHINE,
    kernels=WITHOUT_CHILD_CACHES,
)
def refault_vs_rmdir(stage: Stage) -> None:
    cached = Cached.of(stage)

    async def make(ctx: Context) -> None:
        """Let reclaim take the pages again, which leaves shadows of them."""
        await cached.make(ctx)
        parent = memcg_of(cached.cgroups[1].css)
        while cached.inode.i_pages:
            await try_to_free_mem_cgroup_pages(ctx, parent, 1, GFP_KERNEL)
        await cgroup_attach_task(ctx, cached.cgroups[0], reader)

    async def remove(ctx: Context) -> None:
        await cgroup_attach_task(ctx, cached.cgroups[1], reader)
        await rmdir(ctx, cached.cgroups[0])

    stage.set_up(make)
    stage.task("rmdir", remove)
    reader = stage.task("read", cached.read, cpu=1)
    cached.end()


@scenario(
    "migrate-vs-reparent",
    "pages of a file are moved to node 0 while their cgroup is removed, which begins with that node",
    PAGES,
    *machine(nodes=2),
    kernels=WITHOUT_CHILD_CACHES,
)
def migrate_vs_reparent(stage: Stage) -> None:
    cached = Cached.of(stage)

    async def migrate(ctx: Context) -> None:
        for page in await cached.pages(ctx):
            await migrate_misplaced_folio(ctx, page, 0)
        await lru_add_drain(ctx)

    stage.set_up(lambda ctx: cached.make(ctx, reads_on=-1))
    cached.remove()
    stage.task("migrate", migrate, cpu=1)
    cached.end()
