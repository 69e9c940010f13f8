"""The parts of the benchmarks: rows that run, patches that load, tables, pages, and the file of trials."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from benchmarks import mutants, shrunk
from benchmarks.__main__ import main
from benchmarks.bug_tables import Made, figure, median
from benchmarks.findings import cell
from benchmarks.findings_page import table_of_exact_searches
from benchmarks.pages import markdown_table, put_between_markers
from benchmarks.peer import LOCK
from benchmarks.rows import ROWS, Kernel, Row, find_rows, kernels
from benchmarks.search import against_best, small_campaign
from benchmarks.small import LOADS, PROGRAMS
from benchmarks.trials import Results, Task, Trial, search, stage_of
from explorer.experiment import Experiment, RunOptions
from protocol.errors import UsageError


def trial(first: int | None, row: Row = ROWS[0]) -> Trial:
    return Trial(first, "kind:name:function" if first else "", first or 2_000, 1.0, stage_of(row))


# -- rows -------------------------------------------------------------------------------------------------------------


def test_kernels_are_read_as_they_are_shown() -> None:
    found = kernels("v2..v3; 5.3 +a-patch; original -a-fix")

    assert found == (Kernel("v2"), Kernel("v3"), Kernel("5.3", ("a-patch",)), Kernel("original", (), ("a-fix",)))
    assert [str(kernel) for kernel in found] == ["v2", "v3", "5.3 +a-patch", "original -a-fix"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.slug)
def test_every_row_can_be_run_wherever_it_is_looked_for(row: Row) -> None:
    assert row.having
    assert not set(row.having) & set(row.cured)
    for kernel in (*row.having, *row.cured):
        assert Experiment.of(kernel.options(row.scenario, "portfolio", 0)).scenario.name


def test_rows_are_those_of_history() -> None:
    """The benchmark has the racing rows of BUGS.md, and the rows without a race."""
    assert len({row.slug.partition(" ")[0] for row in ROWS}) == 16
    assert {row.slug for row in ROWS if row.needs_no_race} == {
        "rcu-lock-for-unlock",
        "work-fn-store-after-free",
        "alias-marked-dying",
    }


def test_a_row_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="there is no such row"):
        find_rows(["nonsense"])


# -- trials -----------------------------------------------------------------------------------------------------------


def test_a_trial_ends_when_the_flaw_is_found() -> None:
    (row,) = find_rows(["memcg-pointer-before-rcu-free"])
    found = search(Task(row, row.having[-1], "portfolio", 0, 100))

    assert found.first is not None
    assert found.first <= found.schedules < 100
    assert row.signature.match(found.signature)


def test_a_trial_of_a_cured_kernel_spends_its_budget() -> None:
    (row,) = find_rows(["memcg-pointer-before-rcu-free"])
    found = search(Task(row, row.cured[-1], "portfolio", 0, 40))

    assert (found.first, found.signature, found.schedules) == (None, "", 40)


def test_trials_are_kept(tmp_path: Path) -> None:
    task = Task(ROWS[0], ROWS[0].having[0], "portfolio", 3, 2_000)
    results = Results.load(tmp_path / "new" / "bugs.json")
    results.add(task, trial(7))

    assert Results.load(results.path).get(task) == trial(7)
    assert Results.load(results.path).get(attrs.evolve(task, seed=4)) is None


def test_trials_of_other_code_are_not_taken_for_ours(tmp_path: Path) -> None:
    path = tmp_path / "bugs.json"
    path.write_text(json.dumps({"code": "other", "trials": {}}))

    with pytest.raises(UsageError, match="made by other code"):
        Results.load(path)
    assert Results.load(path, any_code=True).code == "other"


def test_a_file_that_holds_no_trials_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "bugs.json"
    path.write_text("[]")

    with pytest.raises(UsageError, match="it holds no trials"):
        Results.load(path)


# -- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("firsts", "text"),
    [([5], "5"), ([1, 9, 4], "4"), ([1, 4, None], "4 (2/3)"), ([3, None, None], "> 2000 (1/3)")],
)
def test_a_figure_is_the_median_and_says_how_many_found_it(firsts: list[int | None], text: str) -> None:
    assert figure([trial(first) for first in firsts], 2_000) == text


def test_a_strategy_that_does_not_find_the_flaw_ranks_last() -> None:
    assert median([trial(1), trial(None)]) == float("inf")


def test_a_finding_on_a_cured_kernel_is_reported(tmp_path: Path) -> None:
    row = ROWS[0]
    made = Made(Results(tmp_path / "bugs.json", "code"), [row], 2_000, 500, ["portfolio"])
    made.results.trials[Task(row, row.having[0], "portfolio", 0, 2_000).key] = trial(8)

    assert made.is_as_expected
    made.results.trials[Task(row, row.cured[0], "portfolio", 0, 500).key] = trial(9)
    assert not made.is_as_expected
    assert list(made.wrong()) == [f"{row.slug} on {row.cured[0]}, seed 0: kind:name:function"]


def test_a_page_is_changed_between_its_markers_only(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x: begin -->\nold\n<!-- x: end -->\nafter\n")
    put_between_markers(page, "x", markdown_table(["a", "b"], [["1", "2"]]))

    expected = "before\n<!-- x: begin -->\n\n| a | b |\n| --- | ---: |\n| 1 | 2 |\n\n<!-- x: end -->\nafter\n"
    assert page.read_text() == expected
    with pytest.raises(UsageError, match="there is no place for y"):
        put_between_markers(page, "y", [])


@pytest.mark.parametrize(
    "arguments",
    [["bugs", "--rows", "no"], ["bugs", "--parts", "no"], ["mutants", "no"], ["shrunk", "--rows", "no"], ["no"]],
)
def test_errors_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


# -- shrinking and exhaustive search -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_schedule_that_shows_a_flaw_gets_shorter() -> None:
    (row,) = find_rows(["flush-only"])

    shortened = shrunk.shrink(row, row.having[0])

    assert shortened is not None
    assert shortened.matter < shortened.shrunk < shortened.found


def test_the_table_of_what_was_shrunk_has_a_row_a_flaw() -> None:
    runs = [shrunk.Shrunk("a", kernel, 80, steps, 30, 4) for kernel, steps in (("v6", 70), ("v7", 60))]

    lines = shrunk.part([*runs, shrunk.Shrunk("b", "5.3", 9, 9, 5, 2)], ["c on 5.3"])

    assert lines[2:] == ["| a | 2 | 80 | 60 to 70 | 4 | 30 |", "| b | 1 | 9 | 9 | 2 | 5 |", "", "Not found: c on 5.3."]


def test_the_table_of_exact_searches_has_them_only() -> None:
    sampled = cell("nested", "5.3", "slub", "random", 10)
    exact = attrs.evolve(
        cell("offline-vs-free", "5.3", "slub", "dpor", 10),
        stopped="exhausted",
        classes=1_200,
        schedules=1_234,
        cut_off=7,
        seconds=90.0,
        findings={"leak:x:": {"count": 1}},
    )

    *_, line = table_of_exact_searches([sampled, exact])

    assert line == "| offline-vs-free | 5.3 | slub | exhausted | 1,200 | 1,234 | 7 | 90 | `leak:x:` |"


# -- mutants ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", mutants.all_mutants(), ids=lambda path: path.stem)
def test_every_mutant_says_what_is_wrong_and_loads(path: Path) -> None:
    where = next(mutants.stages(path))
    settings = {"allocator": where.allocator}
    options = RunOptions(
        scenario=where.scenario, kernel=mutants.KERNEL, driver="stepper", patches=(str(path),), settings=settings
    )

    assert mutants.summary(path).startswith(("fs/", "lib/", "include/", "kernel/", "mm/"))
    assert Experiment.of(options).patches


def test_the_page_has_two_scores() -> None:
    verdicts = {
        "css_freed_at_once": mutants.Verdict("", "", 0, 120),
        "kill_without_reference": mutants.Verdict("nested", "leak:x:", 7, 67),
        "work_runs_twice": mutants.Verdict("nested", "leak:x:", 1, 61),
    }
    study = mutants.Study(Path("results.json"), 60, verdicts=verdicts)

    lines = mutants.page(study, mutants.all_mutants())

    assert {path.stem for path in mutants.all_mutants()} > mutants.BLIND
    assert "Score: **1 of 2** of the older mutants are found." in lines
    assert "Score: **1 of 1** of the mutants that were made blind are found." in lines
    assert next(line for line in lines if "kill_without" in line).endswith("| `leak:x:` | nested | 7 |")
    assert next(line for line in lines if "css_freed" in line).endswith("| **escaped** |  |  |")


def test_a_mutant_is_found_by_what_the_unpatched_kernel_does_not_show() -> None:
    where = mutants.Where("dentries-vs-rmdir", "slub")
    (path,) = mutants.find_mutants(["lists_moved_without_lock"])
    known = frozenset(["", *where.explore((), 8, frozenset())[1]])
    _, found = where.explore((str(path),), 8, known)

    assert any("nlru->lock is not held" in signature for signature in found.keys() - known)


# -- peers ------------------------------------------------------------------------------------------------------------


def test_the_lock_of_the_peers_pins_hashes_and_names_no_host() -> None:
    text = LOCK.read_text(encoding="utf-8")

    assert "detangle==" in text
    assert "frontrun==" in text
    assert "--hash=sha256:" in text
    assert "://" not in text


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_small_program_shows_its_flaw(program: str) -> None:
    campaign = small_campaign(PROGRAMS[program], "portfolio", 0, 1_000, hunts=True)
    campaign.run()

    assert campaign.found


def test_a_load_has_no_flaw() -> None:
    campaign = small_campaign(LOADS["3 tasks x 3 rounds"], "random", 0, 20, hunts=False)
    campaign.run()

    assert (campaign.schedules, campaign.found) == (20, {})


def test_the_comparison_is_with_the_best_peer() -> None:
    assert against_best({"slabrace portfolio": 6.0, "slabrace urw": 1.0, "one": 3.0, "other": 2.0}) == 3.0
