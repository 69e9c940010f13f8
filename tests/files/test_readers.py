"""The files show the state of the machine, both when a task reads them and when the crash reader does."""

from __future__ import annotations

import pytest

from actors.files.crash_reader import look, look_at
from actors.files.kernel_files import FILES, KernelFile, cgroup_path, has_file
from actors.linux.include.slab import kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import Cgroup, CssFlags
from actors.linux.mm.kmem_cache import KmemCache
from actors.linux.mm.vmstat import StatItem
from actors.machine.context import Context
from actors.oracles.ledger import is_published
from actors.system.flow import Flow
from protocol.formats.cgroup_files import parse_cgroups, parse_flat_keyed, parse_u64
from protocol.formats.memcg_slabinfo import parse_memcg_slabinfo
from protocol.formats.slabinfo import SlabinfoRow, parse_kmem_slabinfo, parse_slabinfo
from protocol.formats.slabinfo_full import CacheState, FullRow, parse_slabinfo_full
from scenarios.stage import Stage, charge_elsewhere, fill, mkdir, rmdir, small_cache, warm_up
from tests.files.helpers import Stand, find, perform, play

each_allocator = pytest.mark.parametrize("allocator", ["slub", "slab"])
OBJECTS = 9


def readable(stage: Stage) -> list[tuple[KernelFile, Cgroup]]:
    """Every file that the machine has now, with its cgroup."""
    machine = stage.machine
    cgroups = [machine.root_cgroup, *machine.root_cgroup.descendants()]
    found = []
    for file in FILES:
        if file.lacks(machine.config):
            continue
        if file.css is None:
            found.append((file, machine.root_cgroup))
        else:
            found += [(file, cgroup) for cgroup in cgroups if has_file(cgroup, file)]
    return [(file, cgroup) for file, cgroup in found if not file.not_on_root or cgroup.parent is not None]


def zombie_stage(read: list[tuple[str, bytes | None, bytes]]) -> object:
    """Remove a cgroup with objects, keep another one; then a task reads every file at quiescence."""

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[small_cache("alpha"), SlabinfoRow("beta", 0, 0, 2048, 4, 2)])
        caches = [machine.root_cache(name) for name in ("alpha", "beta")]
        kept: list[tuple[KmemCache, object]] = []

        async def make_zombies(ctx: Context) -> None:
            for name in ("gone", "stays"):
                cgroup = await mkdir(ctx, machine.root_cgroup, name)
                await warm_up(ctx, cgroup, *caches)
                for cache in caches:
                    kept.extend((cache, obj) for obj in await fill(ctx, cgroup, cache, OBJECTS))
                if name == "gone":
                    await rmdir(ctx, cgroup)
                    await ctx.settle()

        async def read_all(ctx: Context) -> None:
            for file, cgroup in readable(stage):
                name = f"{cgroup_path(cgroup)}/{file.name}" if file.css else file.name
                read.append((name, await file.read(ctx, cgroup), look_at(machine, file, cgroup)))

        async def free(ctx: Context) -> None:
            for cache, obj in kept:
                await kmem_cache_free(ctx, cache, obj)  # type: ignore[arg-type]  # the objects of fill()
            await charge_elsewhere(ctx, stage.session)

        stage.set_up(make_zombies)
        stage.task("reader", read_all)
        stage.wind_up(free)

    return build


def read_zombies(kernel: str = "5.3", **machine: object) -> dict[str, bytes]:
    """The contents of each file, as a task read them."""
    read: list[tuple[str, bytes | None, bytes]] = []
    perform(zombie_stage(read), kernel, **machine)  # type: ignore[arg-type]  # it builds a stage
    return {name: data for name, data, _ in read if data is not None}


# -- the two ways to read ---------------------------------------------------------------------------------------------


@each_allocator
@pytest.mark.parametrize("cgroup", ["v1", "v2"])
@pytest.mark.parametrize("kernel", ["original", "v1", "v4", "5.3", "5.4-fixed"])
def test_at_quiescence_a_task_and_the_crash_reader_read_the_same(kernel: str, cgroup: str, allocator: str) -> None:
    read: list[tuple[str, bytes | None, bytes]] = []
    perform(zombie_stage(read), kernel, allocator=allocator, cgroup=cgroup)  # type: ignore[arg-type]  # as above

    assert len(read) >= 6
    for name, in_flow, from_outside in read:
        assert in_flow is not None, name
        if name == "slabinfo_full":
            assert sorted(map(repr, timeless(in_flow))) == sorted(map(repr, timeless(from_outside)))
        else:
            assert in_flow == from_outside, name
            assert in_flow or name.endswith("memory.kmem.slabinfo"), name


def timeless(text: bytes) -> list[FullRow]:
    """Rows without their ages, which differ between two reads."""
    return [attrs_without_age(row) for row in parse_slabinfo_full(text.decode(), source="x")]


def attrs_without_age(row: FullRow) -> FullRow:
    return FullRow(
        row.name, row.owner, row.memcg, row.state, row.active_objs, row.num_objs, row.active_slabs, row.num_slabs, 0
    )


@each_allocator
@pytest.mark.parametrize("name", ["readers-vs-rmdir", "rmdir-under-load", "nested"])
def test_the_crash_reader_leaves_no_trace(name: str, allocator: str) -> None:
    """The crash reader reads all files after every tenth step, also inside locked sections; the run is the same."""
    looks = 0

    def look_at_all(stage: Stage, _flow: Flow) -> None:
        nonlocal looks
        if stage.world.steps % 10 == 0:
            for file, cgroup in readable(stage):
                looks += bool(look_at(stage.machine, file, cgroup))

    settings = {"allocator": allocator}
    watched, alone = play(name, settings=settings, check=look_at_all), play(name, settings=settings)

    assert looks > 100
    assert watched.recorder.digest() == alone.recorder.digest()
    assert watched.world.findings.keys() == alone.world.findings.keys()


# -- slabinfo ---------------------------------------------------------------------------------------------------------


def has_zombie_and_live(stage: Stage) -> bool:
    """Whether a root cache has slabs of its own, of a zombie child, and of a child in use."""
    caches = stage.machine.child_caches
    return any(not is_published(s) and s.live_objects for s in caches) and any(
        is_published(s) and s.live_objects for s in caches
    )


@each_allocator
def test_slabinfo_has_one_row_for_each_root_with_the_sums_over_its_children(allocator: str) -> None:
    stand = find(has_zombie_and_live, "readers-vs-rmdir", settings={"allocator": allocator})
    machine = stand.stage.machine
    rows = parse_slabinfo(look(machine, "slabinfo").decode(), source="x")
    full = parse_slabinfo_full(look(machine, "slabinfo_full").decode(), source="x")

    assert [row.name for row in rows] == [cache.name for cache in machine.slab_root_caches.caches]
    for row in rows:
        root = machine.root_cache(row.name)
        of_root = [one for one in full if one.name == row.name]
        assert (row.objsize, row.objperslab, row.pagesperslab) == (root.slot_size, root.objects, 1 << root.order)
        assert row.num_slabs == sum(one.num_slabs for one in of_root)
        assert row.num_objs == sum(one.num_objs for one in of_root)
        assert row.active_objs == sum(one.active_objs for one in of_root)
        assert row.active_slabs == sum(one.active_slabs for one in of_root)
        assert row.active_objs >= sum(cache.live_objects for cache in (root, *root.children))


def test_slub_has_no_tunables_and_counts_every_slab_as_active() -> None:
    stand = find(has_zombie_and_live, "readers-vs-rmdir")
    for row in parse_slabinfo(look(stand.stage.machine, "slabinfo").decode(), source="x"):
        assert (row.limit, row.batchcount, row.sharedfactor, row.sharedavail) == (0, 0, 0, 0)
        assert row.active_slabs == row.num_slabs


def test_slub_counts_the_free_objects_of_cpu_slabs_as_active() -> None:
    """KERNEL.md 10.1: only free objects in slabs on a node's partial list are not active."""
    rows = parse_slabinfo_full(read_zombies()["slabinfo_full"].decode(), source="x")
    alpha = {row.owner: (row.active_objs, row.num_objs, row.num_slabs) for row in rows if row.name == "alpha"}

    assert alpha["4:stays"] == (12, 12, 3), "the third slab is a CPU's"
    assert alpha["3:gone"] == (9, 12, 3), "no CPU has any of its slabs any more"


def test_slab_shows_its_tunables_and_what_is_in_shared_arrays() -> None:
    """KERNEL.md 4.7: limits by object size; batchcount is half the limit, the shared factor is 8 on several CPUs."""
    texts = read_zombies(allocator="slab")
    rows = {row.name: row for row in parse_slabinfo(texts["slabinfo"].decode(), source="x")}

    assert (rows["alpha"].limit, rows["alpha"].batchcount, rows["alpha"].sharedfactor) == (54, 27, 8)
    assert (rows["beta"].limit, rows["beta"].batchcount, rows["beta"].sharedfactor) == (24, 12, 8)
    one_cpu = parse_slabinfo(read_zombies(allocator="slab", cpus=1)["slabinfo"].decode(), source="x")
    assert [row.sharedfactor for row in one_cpu] == [0, 0]


def test_a_whole_machine_is_read_as_the_capture_that_it_was_booted_from() -> None:
    """Names and geometry of all rows; the booted machine has no objects yet."""
    stand = play("shared-dentry", until=1)
    captured = parse_slabinfo(stand.stage.knobs["slabinfo"], source="x")
    ours = parse_slabinfo(look(stand.stage.machine, "slabinfo").decode(), source="x")

    assert [(row.name, row.objsize, row.objperslab, row.pagesperslab) for row in ours] == [
        (row.name, row.objsize, row.objperslab, row.pagesperslab) for row in captured
    ]


# -- memory.kmem.slabinfo, usage, memory.stat -------------------------------------------------------------------------


def test_kmem_slabinfo_lists_the_caches_of_a_memcg_under_their_roots_names() -> None:
    texts = read_zombies(cgroup="v1")
    own = parse_kmem_slabinfo(texts["stays/memory.kmem.slabinfo"].decode(), source="x")
    inherited = parse_kmem_slabinfo(texts["/memory.kmem.slabinfo"].decode(), source="x")

    assert [row.name for row in own] == ["alpha", "beta"]
    assert [row.num_slabs for row in own] == [3, 3]
    assert sorted(row.name for row in inherited) == ["alpha", "beta"], "zombies belong to the root now"
    assert texts["session/memory.kmem.slabinfo"] == b""


def test_kmem_slabinfo_of_the_root_is_empty_where_nothing_is_reparented() -> None:
    assert read_zombies("original", cgroup="v1")["/memory.kmem.slabinfo"] == b""


def test_kmem_usage_is_what_is_charged_and_the_root_s_drifts_up() -> None:
    """KERNEL.md 7.5: pages charged below the root are in the root's counter too, and stay there after their free."""
    texts = read_zombies(cgroup="v1")
    pages = 3 + 3 * 2  # of alpha and beta

    assert parse_u64(texts["stays/memory.kmem.usage_in_bytes"].decode(), source="x") == pages * 4096
    assert parse_u64(texts["session/memory.kmem.usage_in_bytes"].decode(), source="x") == 0
    assert parse_u64(texts["/memory.kmem.usage_in_bytes"].decode(), source="x") == 2 * pages * 4096


def test_memory_stat_has_the_slab_lines_in_bytes_and_lags_behind() -> None:
    """KERNEL.md 10.7 and 9.4: up to 32 pages for each CPU are not in the file yet."""
    values = parse_flat_keyed(read_zombies()["stays/memory.stat"].decode(), source="x")

    assert list(values) == ["slab", "slab_reclaimable", "slab_unreclaimable"]
    assert values["slab"] == values["slab_reclaimable"] + values["slab_unreclaimable"]
    assert values["slab"] % 4096 == 0


def test_memory_stat_shows_no_negative_numbers() -> None:
    """KERNEL.md 9.4: memcg_page_state() replaces each negative number by zero."""
    machine = play("canary", until=100).stage.machine
    (session,) = machine.memcgs()
    session.vmstats.total.update({StatItem.NR_SLAB_RECLAIMABLE: -3, StatItem.NR_SLAB_UNRECLAIMABLE: 2})

    assert look(machine, "session/memory.stat") == b"slab 8192\nslab_reclaimable 0\nslab_unreclaimable 8192\n"


# -- memcg_slabinfo ---------------------------------------------------------------------------------------------------


def test_memcg_slabinfo_has_each_root_by_itself_then_its_children_by_css_id() -> None:
    rows = parse_memcg_slabinfo(read_zombies()["memcg_slabinfo"].decode(), source="x")
    alpha = [(row.css_id, row.status, row.num_slabs) for row in rows if row.name == "alpha"]

    assert alpha[0][:2] == (None, "")
    assert sorted(alpha[1:], key=repr) == [(1, "deact", 3), (3, "", 3)], "the zombie is the root's; id 3 was free again"


def test_a_cache_of_a_memcg_that_is_not_online_is_dead_and_none_is_seen() -> None:
    """Offlining reparents the caches before it clears CSS_ONLINE, so no cache is left that could be called `:dead`."""

    def check(stage: Stage, _flow: Flow) -> None:
        rows = parse_memcg_slabinfo(look(stage.machine, "memcg_slabinfo").decode(), source="x")
        seen.update(row.status for row in rows)

    seen: set[str] = set()
    play("readers-vs-rmdir", check=check)
    assert seen == {"", "deact"}

    machine = find(has_zombie_and_live, "readers-vs-rmdir").stage.machine
    for memcg in machine.memcgs():
        memcg.css.clear_flags(CssFlags.ONLINE)
    rows = parse_memcg_slabinfo(look(machine, "memcg_slabinfo").decode(), source="x")
    assert {row.status for row in rows if row.css_id not in (None, 1)} == {"dead"}


# -- cgroups ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "dying"), [("original", 1), ("5.3", 0)])
def test_a_removed_cgroup_is_counted_as_dying_while_something_keeps_it(kernel: str, dying: int) -> None:
    texts = read_zombies(kernel)

    assert parse_flat_keyed(texts["/cgroup.stat"].decode(), source="x") == {
        "nr_descendants": 2,
        "nr_dying_descendants": dying,
    }
    (row,) = parse_cgroups(texts["cgroups"].decode(), source="x")
    assert (row.subsys_name, row.hierarchy, row.enabled) == ("memory", 0, 1)
    assert row.num_cgroups == 3 + dying, "the root is counted, and so are dying ones"


def test_proc_cgroups_counts_a_cgroup_until_its_struct_is_freed() -> None:
    """/proc/cgroups counts it one grace period longer than cgroup.stat (KERNEL.md 3.4.4, 10.5)."""

    def is_forgotten_not_freed(stage: Stage) -> bool:
        root, tree = stage.machine.root_cgroup, stage.machine.cgroup_tree
        return tree.nr_cgrps > 1 + len(root.descendants())

    stand = find(is_forgotten_not_freed, "rmdir-empty")
    machine = stand.stage.machine
    stat = parse_flat_keyed(look(machine, "cgroup.stat").decode(), source="x")
    (row,) = parse_cgroups(look(machine, "cgroups").decode(), source="x")

    assert row.num_cgroups == stat["nr_descendants"] + stat["nr_dying_descendants"] + 2


# -- slabinfo_full ----------------------------------------------------------------------------------------------------

LIVES = {
    "original": [CacheState.ACTIVE, CacheState.DEACTIVATED, CacheState.SHUT],
    "5.3": [CacheState.ACTIVE, CacheState.DEACTIVATED, CacheState.KILLED, CacheState.DRAINING, CacheState.SHUT],
}


@each_allocator
@pytest.mark.parametrize("kernel", LIVES)
def test_every_cache_has_one_row_at_any_step_and_its_state_only_goes_forward(kernel: str, allocator: str) -> None:
    lives: dict[tuple[str, str | None, int], list[CacheState]] = {}

    def note(stage: Stage, _flow: Flow) -> None:
        machine = stage.machine
        rows = parse_slabinfo_full(look(machine, "slabinfo_full").decode(), source="x")
        assert len(rows) == len(machine.all_caches)
        for row in rows:
            born = stage.world.now - row.age_ns
            life = lives.setdefault((row.name, row.owner, born), [])
            if row.state not in life[-1:]:
                life.append(row.state)

    play("rmdir-under-load", kernel, settings={"allocator": allocator}, check=note)
    children = [life for (_, owner, _), life in lives.items() if owner is not None]

    assert len(children) >= 4
    assert all(life == LIVES[kernel][: len(life)] for life in children), children
    assert max(map(len, children)) >= len(LIVES[kernel]) - (allocator == "slab")


def test_a_zombie_remembers_its_owner_and_belongs_to_somebody_else() -> None:
    rows = parse_slabinfo_full(read_zombies()["slabinfo_full"].decode(), source="x")
    zombies = [(row.name, row.owner, row.memcg, row.num_slabs) for row in rows if row.state is CacheState.DRAINING]
    alive = [(row.owner, row.memcg) for row in rows if row.owner and row.state is CacheState.ACTIVE]

    assert sorted(zombies) == [("alpha", "3:gone", "1:/", 3), ("beta", "3:gone", "1:/", 3)]
    assert alive == [("4:stays", "4:stays")] * 2


def test_in_the_original_the_dying_memcg_keeps_its_caches() -> None:
    rows = parse_slabinfo_full(read_zombies("original")["slabinfo_full"].decode(), source="x")

    assert [(row.owner, row.memcg, row.state) for row in rows if row.owner == "3:gone"] == [
        ("3:gone", "3:gone", CacheState.DEACTIVATED)
    ] * 2


def test_a_stand_stops_at_its_step() -> None:
    """The helpers stop a run at the requested step."""
    stand: Stand = play("canary", until=7)

    assert stand.world.steps == 7
