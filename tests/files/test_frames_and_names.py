"""Numbers and names that user space uses: page frames and inodes, css ids, directories, paths of cgroups."""

from __future__ import annotations

import pytest

from actors.files.crash_reader import look
from actors.files.kernel_files import FILES, locate
from actors.linux.include.kernfs import cgroup_ino
from actors.linux.include.slab import kmem_cache_create, kmem_cache_destroy, kmem_cache_free
from actors.linux.kernel.cgroup.cgroup import Cgroup
from actors.machine.context import Context
from actors.system.flow import Flow
from protocol.errors import UsageError
from protocol.formats.kpagecgroup import unpack_kpagecgroup
from protocol.formats.memcg_slabinfo import parse_memcg_slabinfo
from protocol.formats.slab_directory import parse_directory
from protocol.formats.slabinfo import SlabinfoRow
from scenarios.stage import Stage, charge_elsewhere, fill, mkdir, rmdir, small_cache, warm_up
from tests.files.helpers import perform, play

# -- /proc/kpagecgroup ------------------------------------------------------------------------------------------------

ONE_PAGE, TWO_PAGES = small_cache("alpha"), SlabinfoRow("beta", 0, 0, 2048, 4, 2)


def frames(kernel: str) -> tuple[dict[str, int], dict[str, list[list[int]]]]:
    """The inodes of the cgroups, and the entries of all slab pages: by cache, by slab, by page."""
    inodes: dict[str, int] = {}
    said: dict[str, list[list[int]]] = {}

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[ONE_PAGE, TWO_PAGES])
        caches = [machine.root_cache(name) for name in ("alpha", "beta")]

        async def read(ctx: Context) -> None:
            inodes["/"] = cgroup_ino(machine.root_cgroup)
            kept = []
            for name in ("gone", "stays"):
                cgroup = await mkdir(ctx, machine.root_cgroup, name)
                inodes[name] = cgroup_ino(cgroup)
                await warm_up(ctx, cgroup, *caches)
                for cache in caches:
                    kept += [(cache, obj) for obj in await fill(ctx, cgroup, cache, 1)]
                if name == "gone":
                    await rmdir(ctx, cgroup)
                    await ctx.settle()
            table = unpack_kpagecgroup(look(machine, "kpagecgroup"), source="x")
            for cache in machine.all_caches:
                said[cache.name] = [list(table[slab.pfn : slab.pfn + slab.pages]) for slab in cache.slabs]
            assert sum(map(bool, table)) == sum(
                bool(page) for slabs in said.values() for pages in slabs for page in pages
            )
            for cache, obj in kept:
                await kmem_cache_free(ctx, cache, obj)
            await charge_elsewhere(ctx, stage.session)

        stage.task("reader", read)

    perform(build, kernel)
    return inodes, said


def test_original_knows_the_first_page_of_each_slab_and_for_a_dying_cgroup_the_nearest_live_one() -> None:
    inodes, said = frames("original")

    assert said["alpha(4:stays)"] == [[inodes["stays"]]]
    assert said["beta(4:stays)"] == [[inodes["stays"], 0]]
    assert said["alpha(3:gone)"] == [[inodes["/"]]], "the root's: its own cgroup is not online"


@pytest.mark.parametrize("kernel", ["v1", "v2"])
def test_v1_and_v2_forget_page_mem_cgroup(kernel: str) -> None:
    _, said = frames(kernel)

    assert {page for slabs in said.values() for pages in slabs for page in pages} == {0}


def test_v3_knows_every_page_of_each_slab() -> None:
    inodes, said = frames("v3")

    assert said["alpha(4:stays)"] == [[inodes["stays"]]]
    assert said["beta(4:stays)"] == [[inodes["stays"], inodes["stays"]]]


@pytest.mark.parametrize("kernel", ["v4", "v7", "5.3"])
def test_from_v4_to_5_3_slabs_of_one_page_have_no_owner(kernel: str) -> None:
    """H14: the kernel handles only heads of compound pages."""
    inodes, said = frames(kernel)

    assert said["alpha(4:stays)"] == [[0]]
    assert said["beta(4:stays)"] == [[inodes["stays"], 0]]
    assert said["beta(3:gone)"] == [[inodes["/"], 0]], "reparented to the root"


def test_later_the_first_page_of_every_slab_is_known() -> None:
    inodes, said = frames("5.4-fixed")

    assert said["alpha(4:stays)"] == [[inodes["stays"]]]
    assert said["beta(4:stays)"] == [[inodes["stays"], 0]]
    assert said["alpha(3:gone)"] == [[inodes["/"]]]


def test_pages_of_root_caches_have_no_owner() -> None:
    for kernel in ("original", "5.4-fixed"):
        _, said = frames(kernel)

        assert said["beta"] == [[0, 0]]


def test_slabs_lie_side_by_side_aligned_to_their_size() -> None:
    taken: dict[int, str] = {}

    def check(stage: Stage, _flow: Flow) -> None:
        for cache in stage.machine.all_caches:
            for slab in cache.slabs:
                assert slab.pfn % slab.pages == 0
                assert slab.pfn + slab.pages <= stage.machine.buddy.max_pfn
                for pfn in range(slab.pfn, slab.pfn + slab.pages):
                    assert taken.setdefault(pfn, slab.label) == slab.label, "no frame is given out twice"

    play("rmdir-under-load", check=check)

    assert 0 not in taken
    assert len(taken) > 20


# -- css ids ----------------------------------------------------------------------------------------------------------


def test_css_ids_are_given_out_again_when_the_css_is_freed_the_lowest_first() -> None:
    ids: dict[str, int] = {}

    def build(stage: Stage) -> None:
        machine = stage.boot(caches=[ONE_PAGE])

        async def come_and_go(ctx: Context) -> None:
            made = {name: await mkdir(ctx, machine.root_cgroup, name) for name in ("a", "b", "c")}
            await rmdir(ctx, made["a"])
            made["d"] = await mkdir(ctx, machine.root_cgroup, "d")
            await ctx.settle()
            made["e"] = await mkdir(ctx, machine.root_cgroup, "e")
            made["f"] = await mkdir(ctx, machine.root_cgroup, "f")
            ids.update({name: cgroup.css.id for name, cgroup in made.items()})
            for name in "bcdef":
                await rmdir(ctx, made[name])

        stage.task("task", come_and_go)

    machine = perform(build).stage.machine

    assert machine.root_cgroup.css.id == 1
    assert ids == {"a": 3, "b": 4, "c": 5, "d": 6, "e": 3, "f": 7}, "the session has 2"


# -- /sys/kernel/slab -------------------------------------------------------------------------------------------------


def listing(stage: Stage) -> dict[str, str | None]:
    text = look(stage.machine, "slab").decode()
    return {entry.path: entry.target for entry in parse_directory(text, source="x")}


def test_mergeable_caches_have_unique_names_and_links_and_children_are_below_their_roots() -> None:
    seen: list[dict[str, str | None]] = []

    def build(stage: Stage) -> None:
        names = ("alpha", "beta", "gamma", "dentry", "sighand_cache")
        machine = stage.boot(caches=[SlabinfoRow(name, 0, 0, 1024, 4, 1) for name in names])
        alpha = machine.root_cache("alpha")

        async def change(ctx: Context) -> None:
            alias = await kmem_cache_create(ctx, SlabinfoRow("alias", 0, 0, 1024, 4, 1), alpha.flags)
            assert alias is alpha
            cgroup: Cgroup = await mkdir(ctx, machine.root_cgroup, "job")
            await warm_up(ctx, cgroup, alpha)
            seen.append(listing(stage))
            await rmdir(ctx, cgroup)
            await ctx.settle()
            seen.append(listing(stage))
            for _ in range(2):
                await kmem_cache_destroy(ctx, alpha)
            await ctx.settle()
            seen.append(listing(stage))

        stage.task("task", change)

    perform(build)
    unique = ":A-0001024"

    assert seen[0] == {
        unique: None,
        "alpha": unique,
        "alias": unique,
        f"{unique}/cgroup/alpha(3:job)": None,
        "beta": None,
        ":0001024": None,
        "gamma": ":0001024",
        "dentry": None,
        "sighand_cache": None,
    }
    assert seen[1] == {path: target for path, target in seen[0].items() if "job" not in path}
    assert seen[2] == {path: target for path, target in seen[1].items() if unique not in (path, target)}


def test_all_caches_of_a_whole_machine_are_listed_once() -> None:
    stand = play("shared-dentry", until=1)
    listed = listing(stand.stage)
    directories = [path for path, target in listed.items() if target is None]

    assert len(directories) == len(stand.stage.machine.slab_root_caches.caches)
    assert {target for target in listed.values() if target} <= set(directories)
    for cache in stand.stage.machine.slab_root_caches.caches:
        assert cache.name in listed
    assert listed["dentry"] is None
    assert listed["kmalloc-64"] is None
    assert len(listed) > len(directories) > 200, "some are mergeable, and have a link"


# -- names of files ---------------------------------------------------------------------------------------------------


def nested_stage(stage: Stage) -> None:
    machine = stage.boot(caches=[ONE_PAGE])

    async def make(ctx: Context) -> None:
        await mkdir(ctx, await mkdir(ctx, machine.root_cgroup, "a"), "b")

    stage.task("task", make)


@pytest.mark.parametrize(
    ("name", "cgroup", "found"),
    [
        ("slabinfo", "v2", ("slabinfo", "/")),
        ("/proc/slabinfo", "v2", ("slabinfo", "/")),
        ("/sys/kernel/debug/memcg_slabinfo", "v2", ("memcg_slabinfo", "/")),
        ("cgroup.stat", "v2", ("cgroup.stat", "/")),
        ("/cgroup.stat", "v2", ("cgroup.stat", "/")),
        ("a/b/cgroup.stat", "v2", ("cgroup.stat", "b")),
        ("/sys/fs/cgroup/a/memory.stat", "v2", ("memory.stat", "a")),
        ("a/memory.kmem.slabinfo", "v1", ("memory.kmem.slabinfo", "a")),
        ("/sys/fs/cgroup/memory/a/b/memory.kmem.usage_in_bytes", "v1", ("memory.kmem.usage_in_bytes", "b")),
    ],
)
def test_a_file_is_found_by_its_name_or_by_its_path(name: str, cgroup: str, found: tuple[str, str]) -> None:
    file, owner = locate(perform(nested_stage, cgroup=cgroup).stage.machine, name)

    assert (file.name, owner.name) == found


@pytest.mark.parametrize(
    ("name", "machine", "text"),
    [
        ("nothing", {}, "nothing: there is no such file; there are slabinfo, slabinfo_full, "),
        ("a/slabinfo", {}, "a/slabinfo: there is no such file"),
        ("memcg_slabinfo", {"kernel": "v7"}, "that came with 5.3"),
        ("memory.stat", {}, "the root cgroup has none; give CGROUP/memory.stat; cgroups that have it: session, a, a/b"),
        ("c/memory.stat", {}, "there is no such cgroup now; cgroups that have it: session, a, a/b"),
        ("memory.stat", {"cgroup": "v1"}, "that is a file of cgroup v2"),
        ("cgroup.stat", {"cgroup": "v1"}, "that is a file of cgroup v2"),
        ("memory.kmem.slabinfo", {}, "that is a file of cgroup v1"),
        ("slab", {"allocator": "slab"}, "SLAB has no such directory"),
    ],
)
def test_what_a_machine_does_not_have_is_refused_with_the_reason(name: str, machine: dict[str, str], text: str) -> None:
    stand = perform(nested_stage, **{"kernel": "5.3"} | machine)  # type: ignore[arg-type]  # knobs are words
    with pytest.raises(UsageError) as raised:
        locate(stand.stage.machine, name)

    assert text in str(raised.value)


def test_every_file_has_a_name_of_its_own_and_says_what_it_is() -> None:
    assert len({file.name for file in FILES}) == len(FILES) == 11
    for file in FILES:
        assert file.summary
        assert file.path.endswith(file.name)


def test_the_session_s_caches_of_the_root_are_not_in_memcg_slabinfo() -> None:
    """A root cache without children is left out."""
    text = look(perform(nested_stage).stage.machine, "memcg_slabinfo").decode()

    assert parse_memcg_slabinfo(text, source="x") == ()
