"""docs/findings.md agrees with the tool: the page judges every reported finding, and no false alarm is reported."""

from __future__ import annotations

import fnmatch
import itertools
from pathlib import Path

import attrs
import pytest

from actors.versions.profiles import ALLOCATORS
from benchmarks.findings import cell, measure, plan
from benchmarks.findings_page import PAGE, RESULTS, read_judgements, read_results, unjudged
from benchmarks.rows import ROWS, Kernel, Row
from explorer.judgements import Judgement, known_judgements
from explorer.session import run
from protocol.vocabulary import PROFILES, TODAY
from scenarios import SCENARIOS
from tests.helpers import each_third

TEXT = Path(PAGE).read_text(encoding="utf-8")
JUDGEMENTS = read_judgements(TEXT)
RARE = ("F13", "F24", "F12, F20")
"""Sections about findings that no campaign of the plan has reached; the page names the test that reaches each."""

# -- the page ---------------------------------------------------------------------------------------------------------


def test_every_row_of_the_table_is_read() -> None:
    """A row that the pattern did not match would judge nothing."""
    _, _, rest = TEXT.partition("## The judgements")
    table, _, _ = rest.partition("\n## ")

    assert len(JUDGEMENTS) == sum(line.startswith("| `") for line in table.splitlines()) > 50
    assert {row.verdict for row in JUDGEMENTS} == {"true", "caller", "planted"}


def test_an_installed_slabrace_has_the_judgements_of_the_page() -> None:
    """`python -m benchmarks findings --table` writes them."""
    assert list(known_judgements()) == JUDGEMENTS


@pytest.mark.parametrize("row", JUDGEMENTS, ids=lambda row: row.pattern)
def test_every_judgement_is_explained(row: Judgement) -> None:
    for section in row.section.split(", "):
        assert any(
            text in TEXT for text in (f"### {section}. ", f"**{section}. ", f"| {section} | ", f"the {section},")
        )


def test_everything_that_the_campaigns_reported_is_judged() -> None:
    results = read_results(Path(RESULTS)).values()
    wrong = {
        done.key: found
        for done in results
        if (found := unjudged(JUDGEMENTS, done.kernel, done.scenario, done.findings))
    }

    assert not wrong


def test_an_old_name_on_another_stage_or_kernel_is_not_judged() -> None:
    """A new flaw does not pass because its signature is known on another scenario or kernel."""
    known = Judgement("leak:slab:", frozenset({"5.3"}), frozenset({"nested"}), "true", "F2")

    assert not unjudged([known], "5.3", "nested", ["leak:slab:"])
    assert unjudged([known], "5.3", "canary", ["leak:slab:"]) == ["leak:slab:"]
    assert unjudged([known], "5.4-fixed", "nested", ["leak:slab:"]) == ["leak:slab:"]


def test_no_row_judges_a_signature_on_a_stage_that_has_not_shown_it() -> None:
    """Each row of the newest kernels was seen on each of its scenarios; the others are taken together."""
    seen = {
        (done.kernel, done.scenario, signature)
        for done in read_results(Path(RESULTS)).values()
        for signature in done.findings
    }
    idle = [
        (row.pattern, kernel, stage)
        for row in JUDGEMENTS
        for kernel in row.kernels & {"5.3", "5.4-fixed", *TODAY}
        for stage in row.stages
        if not any((kernel, stage) == key[:2] and row.covers(*key) for key in seen)
    ]

    assert [row for row in idle if row[0] not in {known.pattern for known in JUDGEMENTS if known.section in RARE}] == []


def test_every_campaign_is_one_of_the_plan() -> None:
    """Otherwise the page would show results of an old plan for ever."""
    assert read_results(Path(RESULTS)).keys() <= {wanted.key for wanted in plan()}


@pytest.mark.parametrize("row", JUDGEMENTS, ids=lambda row: row.pattern)
def test_every_judgement_is_of_something_that_was_reported(row: Judgement) -> None:
    seen = any(
        row.covers(done.kernel, done.scenario, signature)
        for done in read_results(Path(RESULTS)).values()
        for signature in done.findings
    )

    assert seen != (row.section in RARE)


# -- a small budget of every scenario ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("allocator", ALLOCATORS)
@pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS])
def test_5_4_fixed_reports_only_what_is_judged(name: str, allocator: str) -> None:
    done = measure(cell(name, "5.4-fixed", allocator, "random", 20))

    assert done.schedules == 20
    assert not unjudged(JUDGEMENTS, "5.4-fixed", name, done.findings)


OWN_STEPS = ("v4#2", "v4#5", "v4#6")
"""The steps of v4 with bodies that no other kernel has together; the others run as these do, or as v4 (test_steps)."""


QUICK = [scenario.name for scenario in SCENARIOS if scenario.name != "shared-dentry"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kernel"), each_third(QUICK, [*PROFILES, *OWN_STEPS]))
def test_every_kernel_reports_only_what_is_judged_of_it(name: str, kernel: str) -> None:
    done = measure(attrs.evolve(cell(name, kernel, "slub", "portfolio", 16), settings={}))

    assert not unjudged(JUDGEMENTS, kernel, name, done.findings)


# -- the flaws that need no race --------------------------------------------------------------------------------------

NO_RACE = [row for row in ROWS if row.needs_no_race]


@pytest.mark.parametrize(
    ("row", "kernel", "has_it"),
    [
        pytest.param(row, kernel, has_it, id=f"{row.slug} on {kernel}")
        for row in NO_RACE
        for has_it, kernels in ((True, row.having), (False, row.cured))
        for kernel in kernels
    ],
)
def test_one_run_shows_a_flaw_that_needs_no_race(row: Row, kernel: Kernel, *, has_it: bool) -> None:
    result = run(kernel.options(row.scenario, "random", 0), log=None)

    assert any(map(row.is_shown_by, result.findings)) == has_it


def test_every_kernel_is_tried_for_each_flaw_that_needs_no_race() -> None:
    assert {row.slug for row in NO_RACE} == {"rcu-lock-for-unlock", "work-fn-store-after-free", "alias-marked-dying"}
    for row in NO_RACE:
        assert {kernel.profile for kernel in (*row.having, *row.cured)} == set(PROFILES)


# -- looks wrong, is not ----------------------------------------------------------------------------------------------


@attrs.frozen
class Innocent:
    """An entry of BUGS.md's "Looks wrong, is not": its scenarios and kernels, and the false reports to exclude.

    `but`: the sections of docs/findings.md with the true findings of these scenarios.
    """

    number: int
    scenarios: tuple[str, ...]
    kernels: tuple[str, ...]
    mistakes: tuple[str, ...]
    but: tuple[str, ...] = ()


INNOCENT = (
    Innocent(
        1,
        ("create-vs-offline", "id-reuse"),
        ("original", "5.3", "5.4-fixed"),
        ("*:memcg_kmem_get_cache", "*:percpu_ref_tryget", "bug:slab-out-of-bounds:*"),
    ),
    Innocent(2, ("destroy-vs-offline",), ("5.4-fixed",), ("*",), but=("F5",)),
    Innocent(
        3, ("late-allocation", "id-reuse"), ("5.3", "5.4-fixed"), ("use-after-free:*", "null-deref:*", "invariant:I3:*")
    ),
    Innocent(4, ("late-allocation", "rmdir-under-load"), ("5.3", "5.4-fixed"), ("refcount:*", "invariant:I1:*")),
    Innocent(
        5, ("free-storm", "stock-refill", "stranded-vmstat"), ("5.4-fixed",), ("accounting:*", "warn:page_counter*")
    ),
    Innocent(6, ("shared-dentry",), ("5.3",), ("invariant:Q8:*", "*:*list_lru*")),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "scenario", "kernel"),
    [
        pytest.param(entry, scenario, kernel, id=f"{entry.number}: {scenario} on {kernel}")
        for entry in INNOCENT
        for scenario, kernel in itertools.product(entry.scenarios, entry.kernels)
    ],
)
def test_what_only_looks_wrong_is_not_reported(entry: Innocent, scenario: str, kernel: str) -> None:
    found = measure(cell(scenario, kernel, "slub", "portfolio", 60)).findings
    true = [row for row in JUDGEMENTS if row.section in entry.but]

    assert not [
        name
        for name in unjudged(true, kernel, scenario, found)
        for mistake in entry.mistakes
        if fnmatch.fnmatchcase(name, mistake)
    ]
