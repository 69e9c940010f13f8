"""docs/kernel-map.md: every kernel function is on it, and every change of the series is what it says."""

from __future__ import annotations

import itertools
import sys

import pytest

from actors.versions.kernel_fn import functions
from benchmarks import kernel_map
from benchmarks.kernel_map import BESIDE, EARLIER, EARLIER_VERSIONS, LATER, LATER_VERSIONS, PAGE, Row, filled_in
from protocol.vocabulary import KERNELS, PROFILES
from tests.helpers import run_process
from tests.tidy.sources import ROOT, modules

V4_TO_MERGED = (
    "get_cache exit",
    "dying sync",
    "shutdown after ref 0",
    "work_fn=NULL after fn + WARNs",
    "sysfs removal on deactivation",
    "list_lru memcg lookup",
    "C.memcg access",
    "entries[] read",
    "root memcg target",
    "vmstat flush at offline",
    "memcg_slabinfo / SLAB_DEACTIVATED",
)
"""The changes that the changelogs of v5, v6, v7 and of the merged kernel name; the page must have all of them."""

V1_TO_V4 = (
    "refcnt type, start",
    "pins counted",
    "initial ref dropped by / 0 detected",
    "get_cache: M found via",
    "get_cache: hold on success",
    "get_cache exit / put_cache",
    "schedule_create",
    "charge: read of C.memcg",
    "charge: m NULL / own css ref",
    "charge: error returned / tail order",
    "uncharge",
    "slab stats without MEMCG_KMEM",
    "init_memcg_params / destroy_memcg_params(child)",
    "memcg_link_cache store / memcg_unlink_cache",
    "kmemcg_cache_deactivate: dying read",
    "memcg_deactivate_kmem_caches",
    "reparent: when / target",
    "reparent: order",
    "reparent if R.dying",
    "deactivate_after_rcu",
    "kmemcg_after_rcu_workfn",
    "kmemcg_queue_cache_shutdown",
    "flush_memcg_workqueue: dying store",
    "memcg_offline_kmem",
    "GPs deactivate -> shutdown work",
    "page_cgroup_ino for slab pages",
)
"""The changes that the changelogs of v2, v3 and v4 name."""

NO_STEP = {
    "entries[] read",
    "slab stats without MEMCG_KMEM",
    "kmemcg_cache_deactivate: dying read",
}
"""The changes that are not separate steps in the model."""


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


# -- the page is what the code says -----------------------------------------------------------------------------------


def test_the_page_is_what_the_function_table_says() -> None:
    assert page() == filled_in(page()), "run `python -m benchmarks.kernel_map --write`"


def test_every_kernel_function_is_on_the_page_with_its_file() -> None:
    section, listed = "", set()
    for line in page().partition("## Every function")[2].splitlines():
        if line.startswith("### "):
            section = line.removeprefix("### ")
        elif line.startswith("| `"):
            listed.add((line.split("`")[1], section))

    assert listed == {(body.name, body.file) for function in functions().values() for body in function.bodies}


def test_every_module_that_declares_kernel_functions_is_known_to_the_page() -> None:
    """A module that only some command imports would be missing from the table, without any other sign."""
    declaring = {
        module.name.removeprefix("actors/")
        for module in modules("actors/linux", "actors/files")
        if "\n@kernel_fn(" in module.text
    }
    known = {kernel_map.place(body) for function in functions().values() for body in function.bodies}

    assert declaring == known


def test_the_command_prints_the_tables() -> None:
    answer = run_process(sys.executable, "-m", "benchmarks.kernel_map")

    assert answer.returncode == 0, answer.stderr
    for name, table in kernel_map.TABLES:
        assert f"## {name}\n\n{table()}\n" in answer.stdout


# -- the changes of the series ----------------------------------------------------------------------------------------


def test_no_change_of_the_series_is_missing() -> None:
    assert tuple(row.title for row in LATER) == V4_TO_MERGED
    assert tuple(row.title for row in EARLIER) == V1_TO_V4


@pytest.mark.parametrize("title", [*V4_TO_MERGED, *V1_TO_V4])
def test_every_change_is_a_row_of_the_page(title: str) -> None:
    assert sum(line.startswith(f"| {title} | ") for line in page().splitlines()) == 1


@pytest.mark.parametrize("row", [*LATER, *BESIDE, *EARLIER], ids=lambda row: row.title)
def test_a_row_without_a_function_is_one_that_makes_no_difference(row: Row) -> None:
    assert bool(row.changes) == (row.title not in NO_STEP)
    assert row.what


CHANGES = [
    pytest.param(versions, name, version, id=f"{row.title}: {name} in {version}")
    for rows, versions in ((LATER, LATER_VERSIONS), (BESIDE, LATER_VERSIONS), (EARLIER, EARLIER_VERSIONS))
    for row in rows
    for name, changed_in in row.changes
    for version in changed_in
]


@pytest.mark.parametrize(("versions", "name", "version"), CHANGES)
def test_the_function_that_a_row_names_is_another_in_that_version(
    versions: tuple[str, ...], name: str, version: str
) -> None:
    function, before = functions()[name], versions[versions.index(version) - 1]

    assert version in versions[1:]
    assert function.body(before, "slub") is not function.body(version, "slub")


@pytest.mark.parametrize(
    ("rows", "versions"),
    [((*LATER, *BESIDE), LATER_VERSIONS), (EARLIER, EARLIER_VERSIONS)],
    ids=["v4 to 5.3", "v1 to v4"],
)
def test_every_function_that_differs_between_the_versions_is_in_a_row_that_says_where(
    rows: tuple[Row, ...], versions: tuple[str, ...]
) -> None:
    said = {(name, version) for row in rows for name, changed_in in row.changes for version in changed_in}
    differing = {
        (name, version)
        for name, function in functions().items()
        for before, version in itertools.pairwise(versions)
        if function.body(before, "slub") is not function.body(version, "slub")
    }

    assert differing == said


@pytest.mark.parametrize(
    ("profiles", "text"),
    [
        (tuple(KERNELS), "all"),
        (tuple(PROFILES), "..5.4-fixed"),
        (("5.3", "5.4-fixed", "6.12"), "5.3..6.12"),
        (("v2",), "v2"),
        (("v2", "v3", "v5"), "v2..v3, v5"),
        (("5.3", "5.4-fixed"), "5.3..5.4-fixed"),
        ((), ""),
    ],
)
def test_profiles_are_shown_as_ranges(profiles: tuple[str, ...], text: str) -> None:
    assert kernel_map.span(profiles) == text


def test_the_page_is_where_the_repository_has_it() -> None:
    assert PAGE == ROOT / "docs" / "kernel-map.md"
