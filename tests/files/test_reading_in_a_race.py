"""Readers as flows: they lock one section at a time, lose races, delay rmdir, and hold too few references."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from actors.files.crash_reader import look
from actors.files.kernel_files import find_file
from actors.files.seq_file import SeqFile, SeqOperations, Whole, read_whole, single_open
from actors.files.slabinfo import slabinfo_open
from actors.linux.include.slab import kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import Cgroup
from actors.linux.mm.kmem_cache import KmemCache, SlabObject
from actors.machine.context import Context
from actors.system.flow import Flow
from actors.system.lane import Lane
from explorer.experiment import RunOptions
from explorer.search.strategies.simple import RandomWalk
from explorer.session import run
from protocol.formats.slabinfo import PAGE_SIZE, SlabinfoRow, parse_slabinfo
from scenarios.stage import Stage, fill, mkdir, rmdir, small_cache, warm_up
from tests.files.helpers import find, perform, play

ROWS = 100


def many_caches(count: int = ROWS) -> list[SlabinfoRow]:
    return [SlabinfoRow(f"cache-{number}", 0, 0, 64, 64, 1) for number in range(count)]


def alone(body: Callable[[Context], object], caches: list[SlabinfoRow]) -> Callable[[Stage], None]:
    """A stage on which one task runs *body* and nothing else runs."""

    def build(stage: Stage) -> None:
        stage.boot(caches=caches)

        async def run(ctx: Context) -> None:
            await body(ctx)  # type: ignore[misc]  # a coroutine

        stage.task("reader", run)

    return build


# -- sections ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [PAGE_SIZE, 1024, 100, 1 << 20])
def test_a_long_file_is_read_in_sections_of_at_most_a_page_or_what_was_asked_for(size: int) -> None:
    """seq_read() takes slab_mutex for every read(2), and its buffer is one page for any requested size."""
    texts: list[bytes] = []
    sections: list[int] = []

    async def read(ctx: Context) -> None:
        m = slabinfo_open()
        sections.append(0)
        start = m.op.start

        async def counted(ctx: Context, m: SeqFile[KmemCache]) -> KmemCache | None:
            sections[0] += 1
            return await start(ctx, m)

        m.op = attrs.evolve(m.op, start=counted)
        texts.append(await read_whole(ctx, m, size))
        texts.append(look(ctx.machine, "slabinfo"))

    perform(alone(read, many_caches()))
    row = len(texts[0].splitlines(keepends=True)[-1])
    per_section = min(size, PAGE_SIZE) // row + (size < PAGE_SIZE)

    assert texts[0] == texts[1]
    assert [line.split()[0] for line in texts[0].decode().splitlines()[2:]] == [row.name for row in many_caches()]
    assert ROWS // (per_section + 1) <= sections[0] <= ROWS // max(per_section - 1, 1) + 3


def test_a_deleted_record_moves_the_others_under_the_reader() -> None:
    """A position is a number: if an earlier record is deleted between two sections, the reader skips one record."""
    records = [f"{number:0100}\n" for number in range(60)]
    texts: list[str] = []

    async def start(_ctx: Context, m: SeqFile[str]) -> str | None:
        return m.seq_list_start(tuple(records))

    async def go_on(_ctx: Context, m: SeqFile[str]) -> str | None:
        return m.seq_list_next()

    async def stop(_ctx: Context, m: SeqFile[str]) -> None:
        if m.index > 10 and "0" * 99 + "5\n" in records:
            records.remove("0" * 99 + "5\n")

    async def show(_ctx: Context, m: SeqFile[str], record: str) -> None:
        m.seq_puts(record)

    async def read(ctx: Context) -> None:
        texts.append((await read_whole(ctx, SeqFile(SeqOperations(start, go_on, stop, show)))).decode())

    perform(alone(read, many_caches(1)))
    shown = [int(line) for line in texts[0].splitlines()]

    assert len(shown) == len(set(shown)) == 59
    assert 5 in shown
    assert len({*range(60)} - {*shown}) == 1, "another one is missing"


def test_a_file_shown_in_one_go_is_shown_again_if_it_does_not_fit() -> None:
    """single_open(): the buffer is doubled until the file fits, and the lock is taken for each try."""
    shows = 0
    texts: list[bytes] = []

    async def show(_ctx: Context, m: SeqFile[Whole]) -> None:
        nonlocal shows
        shows += 1
        m.seq_puts("x" * 10_000)

    async def read(ctx: Context) -> None:
        texts.append(await read_whole(ctx, single_open(show)))

    perform(alone(read, many_caches(1)))

    assert texts == [b"x" * 10_000]
    assert shows == 3  # into 4096, 8192 and 16384 bytes


# -- lost races -------------------------------------------------------------------------------------------------------


def test_the_removal_of_a_cgroup_waits_for_the_readers_of_its_files() -> None:
    stand = find(
        lambda stage: any(memcg.css.files.waiters for memcg in stage.machine.memcgs()),
        "readers-vs-rmdir",
        settings={"reads": 3},
    )
    (css,) = (memcg.css for memcg in stand.stage.machine.memcgs() if memcg.css.files.waiters)
    (waiting,) = css.files.waiters

    assert waiting.name == "jobs"
    assert waiting.request is not None
    assert waiting.request.info.name == "kernfs_drain"
    assert [ctx.name for ctx in css.files.active] == ["cadvisor"]


@pytest.mark.parametrize("name", ["memory.kmem.slabinfo", "memory.kmem.usage_in_bytes"])
def test_an_open_file_of_a_removed_cgroup_cannot_be_read(name: str) -> None:
    """The read returns ENODEV, even after the cgroup is freed: an open file keeps only its kernfs node."""
    got: list[bytes | None] = []

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha")])

        async def read(ctx: Context) -> None:
            cgroup = await mkdir(ctx, machine.root_cgroup, "job")
            got.append(await find_file(name).read(ctx, cgroup))
            await rmdir(ctx, cgroup)
            got.append(await find_file(name).read(ctx, cgroup))
            await ctx.settle()
            got.append(await find_file(name).read(ctx, cgroup))

        stage.task("reader", read)

    stand = perform(build, cgroup="v1")

    assert got[0] is not None
    assert got[1:] == [None, None]
    assert not stand.world.findings


def test_a_row_may_say_that_less_than_nothing_is_active() -> None:
    """get_slabinfo() reads twice: a slab that joins the partial list in between has free objects but is not counted."""
    torn: list[SlabinfoRow] = []

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha")])
        cache = machine.root_cache("alpha")

        async def read(ctx: Context) -> None:
            data = await find_file("slabinfo").read(ctx, machine.root_cgroup)
            assert data is not None
            torn.extend(row for row in parse_slabinfo(data.decode(), source="x") if row.active_objs > row.num_objs)

        async def allocate(ctx: Context) -> None:
            for obj in await fill(ctx, machine.root_cgroup, cache, 60):
                await kmem_cache_free(ctx, cache, obj)

        stage.task("reader", read)
        stage.task("daemon", allocate, cpu=1)

    perform(build, strategy=Parked("reader", "spin_lock"))
    (row,) = torn

    assert row.num_objs == 0
    assert -60 <= row.active_objs - 2**64 < 0, "printed as the unsigned long that it is"


@attrs.define
class Parked(RandomWalk):
    """A random walk that delays *lane*, when *operation* is its next, until no other lane is enabled."""

    lane: str
    operation: str

    def __init__(self, lane: str, operation: str) -> None:
        super().__init__(0)
        self.lane = lane
        self.operation = operation

    def choose(self, lanes: tuple[Lane, ...]) -> int:
        free = [index for index, lane in enumerate(lanes) if not self.is_parked(lane)]
        return free[super().choose(tuple(lanes[index] for index in free))] if free else super().choose(lanes)

    def is_parked(self, lane: Lane) -> bool:
        return isinstance(lane, Flow) and lane.name == self.lane and lane.request.info.name == self.operation


# -- a reader that holds nothing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["v3", "v4", "v5"])
def test_a_grace_period_keeps_a_cache_for_the_reader_of_kpagecgroup(kernel: str) -> None:
    """Up to v5 a cache without pages is shut down only after a grace period, which waits for the reader."""
    stand = perform(last_page_goes, kernel, strategy=Parked("page-types", "read_memcg"))

    assert "use-after-free" not in {found.kind for found in stand.world.findings.values()}


@pytest.mark.parametrize("kernel", ["v6", "v7", "5.3", "5.4-fixed"])
def test_nothing_keeps_a_cache_for_the_reader_of_kpagecgroup(kernel: str) -> None:
    """Between the reads of page->slab_cache and s->memcg_params.memcg the last page and the cache may go (inferred)."""
    stand = perform(last_page_goes, kernel, strategy=Parked("page-types", "read_memcg"))
    (finding,) = (found for found in stand.world.findings.values() if found.kind == "use-after-free")

    assert finding.name == "KmemCache"
    assert finding.function == "memcg_from_slab_page"
    assert finding.flow == "page-types"


def last_page_goes(stage: Stage) -> None:
    """Free a zombie's only slab while a task reads which cgroup its pages are charged to."""
    machine = stage.boot(caches=[SlabinfoRow("beta", 0, 0, 2048, 4, 2)])
    cache = machine.root_cache("beta")
    kept: list[SlabObject] = []

    async def make_zombie(ctx: Context) -> None:
        cgroup: Cgroup = await mkdir(ctx, machine.root_cgroup, "job")
        await warm_up(ctx, cgroup, cache)
        kept.extend(await fill(ctx, cgroup, cache, 1))
        await rmdir(ctx, cgroup)

    async def read(ctx: Context) -> None:
        await find_file("kpagecgroup").read(ctx, machine.root_cgroup)

    async def free(ctx: Context) -> None:
        await kmem_cache_free(ctx, cache, kept[0])

    stage.set_up(make_zombie)
    stage.task("page-types", read)
    stage.task("free", free, cpu=1)


# -- the scenario -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allocator", ["slub", "slab"])
@pytest.mark.parametrize("kernel", ["original", "5.3", "5.4-fixed"])
def test_readers_find_nothing_wrong_with_merged_kernels(kernel: str, allocator: str) -> None:
    for seed in range(4):
        stand = play("readers-vs-rmdir", kernel, seed=seed, settings={"allocator": allocator})

        assert not stand.world.findings
        assert stand.world.stopped == "quiescent"


def test_the_races_of_the_scenario_are_reached() -> None:
    """Every `sometimes` property holds in at least one of a few runs."""
    unreached = [{prop.name for prop in play("readers-vs-rmdir", seed=seed).stage.unreached} for seed in range(8)]

    assert set.intersection(*unreached) == set()


def test_both_drivers_read_alike() -> None:
    """Same seed, same bytes: readers await only the seam."""
    options = RunOptions(scenario="readers-vs-rmdir", settings={"reads": "1", "kpagecgroup": "yes"})
    runs = [run(attrs.evolve(options, driver=driver)) for driver in ("trio", "stepper")]

    assert runs[0].digest == runs[1].digest
