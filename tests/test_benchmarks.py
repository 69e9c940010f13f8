"""The parts of the benchmarks: rows that run, patches that load, tables, pages, and the file of trials."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import attrs
import pytest

from benchmarks import limits, mutants, performance, profile, shrunk
from benchmarks.__main__ import main
from benchmarks.bug_tables import Made, figure, median
from benchmarks.findings import cell
from benchmarks.findings_page import table_of_exact_searches
from benchmarks.guided import Compared, page
from benchmarks.pages import PERFORMANCE, markdown_table, put_between_markers
from benchmarks.peer import LOCK, find_python, version_of
from benchmarks.profiles import profiles
from benchmarks.report import Ratio, Report
from benchmarks.report import Row as Rate
from benchmarks.rows import ROWS, Kernel, Row, find_rows, kernels
from benchmarks.rows_today import ROWS_TODAY
from benchmarks.search import against_best, small_campaign
from benchmarks.small import LOADS, PROGRAMS, lost_update
from benchmarks.speed import LONG_SEARCH, Figures, Work, compare, compare_workers, conclusion, differences, works
from benchmarks.trees import ROOT, Tree, check_out
from benchmarks.trials import Results, Task, Trial, search, stage_of
from explorer.cli.usage import make_parser
from explorer.experiment import Experiment, RunOptions
from protocol.errors import UsageError
from protocol.vocabulary import TODAY


def trial(first: int | None, row: Row = ROWS[0]) -> Trial:
    return Trial(first, "kind:name:function" if first else "", first or 2_000, 1.0, stage_of(row))


def test_steps_of_every_kernel_of_today_are_compared_with_5_3() -> None:
    report = profiles(scenarios=("stock-refill",), seeds=1, rounds=1)

    assert [ratio.name for ratio in report.ratios] == [f"stock-refill: {kernel} / 5.3" for kernel in TODAY]
    assert all(row.value > 0 for row in report.rows)


# -- rows -------------------------------------------------------------------------------------------------------------


def test_kernels_are_read_as_they_are_shown() -> None:
    found = kernels("v2..v3; 5.3 +a-patch; original -a-fix")

    assert found == (Kernel("v2"), Kernel("v3"), Kernel("5.3", ("a-patch",)), Kernel("original", (), ("a-fix",)))
    assert [str(kernel) for kernel in found] == ["v2", "v3", "5.3 +a-patch", "original -a-fix"]


@pytest.mark.parametrize("row", [*ROWS, *ROWS_TODAY], ids=lambda row: row.slug)
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


def test_seeds_are_counted_from_the_first_one(tmp_path: Path) -> None:
    row = ROWS[0]
    made = Made(Results(tmp_path / "guided.json", "code"), [row], 2_000, 500, ["portfolio"], first_seed=20)
    for seed in (0, 20, 21, 23):
        made.results.trials[Task(row, row.having[-1], "portfolio", seed, 2_000).key] = trial(seed + 1)

    assert made.compared(row) == {"portfolio": [trial(21), trial(22)]}


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
    [
        ["bugs", "--rows", "no"],
        ["bugs", "--parts", "no"],
        ["mutants", "no"],
        ["shrunk", "--rows", "no"],
        ["no"],
        ["ring", "--full"],
        ["ring", "--write"],
    ],
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
    assert "simloom==" in text
    assert "--hash=sha256:" in text
    assert "://" not in text


def test_a_peer_that_needs_a_later_python_runs_on_the_first_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = sys.version_info.minor + 1
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    shim, working = tmp_path / f"python3.{later}", tmp_path / f"python3.{later + 1}"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)

    assert find_python(later - 1) == Path(sys.executable)
    assert version_of(Path(sys.executable)).startswith("CPython 3.")
    assert find_python(later) is None
    working.write_text("#!/bin/sh\necho CPython 3.99\n")
    working.chmod(0o755)
    assert find_python(later) == working


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


# -- speed ------------------------------------------------------------------------------------------------------------


@attrs.frozen
class Trees:
    """Trees in which `slabrace` is a script of some lines."""

    place: Path

    def make(self, name: str, script: str) -> Tree:
        package = self.place / name / "slabrace"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(script)
        return Tree(name, package.parent, self.place)


@pytest.fixture
def fake(tmp_path: Path) -> Trees:
    return Trees(tmp_path)


ANSWER = 'print(\'{"schedules": 8, "digest": "%s", "seconds": %d, "findings": [{"count": 2}]}\')'
WORK = Work(name="explore x", command=("explore", "x"), counts="schedules", speedup=3, rounds=2)


def test_trees_with_equal_answers_have_rates_and_a_ratio(fake: Trees) -> None:
    figures = Figures()
    compare(figures, fake.make("a", ANSWER % ("d", 1)), fake.make("b", ANSWER % ("d", 2)), WORK)

    assert not figures.failures
    assert [(row.label, row.unit) for row in figures.rows] == [
        ("explore x: baseline", "schedules/CPU s"),
        ("explore x: now", "schedules/CPU s"),
    ]
    assert [ratio.goal for ratio in figures.ratios] == [3]
    assert all(row.value > 0 for row in figures.rows)


def test_another_answer_is_a_failure(fake: Trees) -> None:
    figures = Figures()
    compare(figures, fake.make("a", ANSWER % ("d", 1)), fake.make("b", ANSWER % ("e", 1)), WORK)

    assert figures.failures == ['explore x: the answers differ: digest is "d" in the baseline, and "e" now']
    assert not Report(name="speed", rows=(), ratios=(), failures=tuple(figures.failures)).is_met


def test_another_table_is_a_failure(fake: Trees) -> None:
    figures = Figures()
    script = "import pathlib; pathlib.Path('t.csv').write_text('%s'); print('{}')"
    compare(
        figures, fake.make("a", script % 1), fake.make("b", script % 2), attrs.evolve(WORK, counts="", table="t.csv")
    )

    assert figures.failures == ['explore x: the answers differ: table is "1" in the baseline, and "2" now']


def test_a_tree_that_cannot_run_is_a_failure(fake: Trees) -> None:
    tree = fake.make("a", "import sys; sys.stderr.write('first\\nno such scenario\\n'); sys.exit(3)")
    figures = Figures()
    figures.attempt("explore x", lambda: compare(figures, tree, tree, WORK))

    assert figures.failures == ["explore x: a ended with 3: no such scenario"]


def test_workers_are_compared_with_one_worker_and_with_the_baseline(fake: Trees) -> None:
    script = "import sys; print('{\"classes\": %s}')"
    one, other = fake.make("a", script % 7), fake.make("b", script % 7)
    figures = Figures()
    compare_workers(figures, one, other, rounds=1)
    assert (len(figures.rows), len(figures.ratios), figures.failures) == (4, 2, [])

    lost = fake.make("c", "import sys; print('{\"classes\": %s}' % (8 - int(sys.argv[-1])))")
    compare_workers(figures, one, lost, rounds=1)
    assert figures.failures == [
        "workers: the answers differ: classes is 7 with one worker, and 6 with two",
        "explore, 2,000 schedules: two workers / one: the answers differ: classes is 7 in the baseline, and 6 now",
    ]


def test_differences_are_named_by_their_place() -> None:
    before = {"a": {"b": [1, {"c": 2}]}, "seconds": 1, "n": None}

    assert list(differences(before, {"a": {"b": [1, {"c": 2}]}, "seconds": 2, "n": None, "new": 1})) == []
    assert list(differences(before, {"a": {"b": [1, {"c": 3}]}, "n": 0})) == [
        "a.b[1].c is 2 in the baseline, and 3 now",
        "n is null in the baseline, and 0 now",
    ]
    assert list(differences({"b": [1]}, {"b": [1, 2]})) == ["b is [1] in the baseline, and [1, 2] now"]


def test_the_conclusion_of_an_exact_search_does_not_depend_on_its_order() -> None:
    def answer(*names: str, classes: int = 9) -> dict[str, Any]:
        findings = [{"signature": name, "symptoms": [{"signature": f"{name}s"}], "count": 1} for name in names]
        return {
            "outcome": "finding",
            "stopped": "exhausted",
            "trace_classes": classes,
            "steps": 1,
            "findings": findings,
        }

    assert conclusion(answer("a", "b")) == conclusion({**answer("b", "a"), "steps": 2})
    assert conclusion(answer("a", "b")) != conclusion(answer("a"))
    assert conclusion(answer("a")) != conclusion(answer("a", classes=8))


def test_the_cpu_time_of_a_run_includes_its_workers(fake: Trees) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}], check=True)"
    run = fake.make("a", script).slabrace()

    assert run.cpu >= 0.3
    assert run.wall >= 0.3


def test_an_interrupt_ends_the_process(fake: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = []

    def interrupted(pid: int, _options: int) -> NoReturn:
        pids.append(pid)
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.trees.os.wait4", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fake.make("a", "while True: pass").slabrace()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


@pytest.mark.parametrize("is_full", [False, True])
def test_every_command_that_is_measured_is_one_of_slabrace(*, is_full: bool) -> None:
    found = works(is_full=is_full)

    assert len({work.name for work in found}) == len(found) == 10
    for work in found:
        assert (work.speedup is None) != (work.limit is None)
        if work.command != ("--help",):
            make_parser().parse_args(work.command)


def test_the_programs_that_run_in_both_trees_run_here(tmp_path: Path) -> None:
    here = Tree("now", ROOT, tmp_path)
    answer = json.loads(here.run("-c", LONG_SEARCH, "20").output)
    functions = profile.hottest(here, "reclaim-in-charge", 60)

    assert answer.keys() == {"schedules", "classes", "seconds", "peak"}
    assert (answer["schedules"], answer["classes"]) == (20, 20)
    assert len(functions) == profile.TOP
    assert sorted(functions, key=lambda one: -one.share) == functions
    assert 0 < sum(one.share for one in functions) <= 1
    assert any(one.place.startswith(("actors/", "explorer/")) for one in functions)


def test_a_commit_is_checked_out_and_one_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    repository, target = tmp_path / "repository", tmp_path / "target"
    repository.mkdir()
    (repository / "file").write_text("text")
    git = ("git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@b")
    for command in (("init", "-q"), ("add", "file"), ("commit", "-q", "-m", "one")):
        subprocess.run([*git, *command], check=True)  # noqa: S603 -- fixed arguments
    check_out("HEAD", target, repository)

    assert (target / "file").read_text() == "text"
    with pytest.raises(UsageError, match=r"commit 22fdd8e, cannot be checked out: git: .*full clone") as e:
        check_out("22fdd8e", tmp_path / "other", repository)
    assert "\n" not in str(e.value)
    assert not (tmp_path / "other").exists()


def test_a_folder_without_a_repository_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UsageError, match="not a git repository"):
        check_out("22fdd8e", tmp_path / "target", tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="No such file"):
        check_out("22fdd8e", tmp_path / "target", tmp_path)


def test_the_page_has_a_row_for_each_pair_and_says_what_is_missed() -> None:
    rows = [Rate("a: baseline", 1, "s"), Rate("a: now", 0.5, "s"), Rate("b: baseline", 3, ""), Rate("b: now", 4, "")]
    rows.append(Rate("limit: loop", 2_000, "steps/CPU s"))
    report = Report(name="speed", rows=tuple(rows), ratios=(Ratio("a: CPU time", 2.0, goal=3),), failures=("no",))

    assert performance.table(report)[2:] == [
        "| a: CPU time | 1 s | 0.5 s | 2.00 | at least 3, missed |",
        "| b | 3 | 4 |  |  |",
    ]
    assert performance.limits_table(report)[2:] == ["| loop | 2,000 | steps/CPU s |"]
    assert performance.remarks(report)[0] == "- **no**"
    assert performance.table(attrs.evolve(report, rows=()))[2:] == ["| a: CPU time | 2.00 | at least 3, missed |"]


def test_the_page_has_all_places() -> None:
    text = PERFORMANCE.read_text(encoding="utf-8")

    for name in (*performance.PLACES, "limits", "profile"):
        assert text.count(f"<!-- {name}: begin -->") == text.count(f"<!-- {name}: end -->") == 1


# -- limits -----------------------------------------------------------------------------------------------------------


def test_the_steps_of_the_limits_are_those_of_the_program() -> None:
    load = (lost_update, (2, 1))
    campaign = small_campaign(load, "dpor", 1, 100, hunts=False)
    campaign.run()

    assert campaign.stopped == "exhausted"
    assert limits.explore(load, "dpor", 100) == campaign.statistics.steps[1]


def test_transitions_are_read_from_a_search_that_was_not_cut_short() -> None:
    report = "     8124 states, stored\n    20311 transitions (= stored+matched)\n"

    assert limits.transitions(report) == 20_311
    with pytest.raises(AssertionError):
        limits.transitions("Warning: Search not completed\n" + report)


def test_spin_takes_part_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "best_rate", lambda _work, _repeats=1: 1.0)
    monkeypatch.setattr(limits, "SPIN", (2, 2))
    is_here = all(map(shutil.which, ("spin", "cc")))
    rows, notes = limits.limits()

    assert [row.value > 0 for row in rows if row.label == "limit: Spin, exhaustive"] == [True] * is_here
    assert any("not installed" in note for note in notes) is not is_here
    monkeypatch.setenv("PATH", "")
    assert limits.limits()[1][-1] == "Spin takes no part: spin and cc not installed"


# -- guided -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("portfolio", "guided", "ratio"), [(4, 2, 0.5), (4, None, None), (None, None, None)])
def test_a_ratio_is_a_number_or_null(portfolio: int | None, guided: int | None, ratio: float | None) -> None:
    one = Compared(ROWS[0], [trial(portfolio)], [trial(guided)])

    assert json.loads(json.dumps(one.as_json(), allow_nan=False))["ratio"] == ratio


def test_the_table_of_guided_says_which_goals_are_missed() -> None:
    hard, easy = (next(row for row in ROWS if row.slug == slug) for slug in ("flush-only", "dying-test-unlocked"))
    compared = [
        Compared(easy, [trial(20), trial(10), trial(30)], [trial(20), trial(22), trial(30)]),
        Compared(hard, [trial(20), trial(10), trial(30)], [trial(None), trial(11), trial(12)]),
    ]

    assert [one.is_met for one in compared] == [True, False]
    assert page(compared, 2_000)[2:] == [
        "flaw. The ratio is that of the medians. Goals missed: 1 of 2.",
        "",
        "| flaw, kernel | portfolio | found | guided | found | ratio | goal |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| flush-only, original +flush-only | 20 | 3/3 | 12 | 2/3 | 0.60 | at most 0.5, **missed** |",
        "| dying-test-unlocked, v3 | 20 | 3/3 | 22 | 3/3 | 1.10 | at most 1.1 |",
    ]
