"""`slabrace bisect`: the history of a flaw, from made-up probes and from real ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.bisect import bisect_row
from benchmarks.rows import ROWS, Row
from explorer.cli.bisect import answer_lines
from explorer.experiment import NOTHING_GIVEN
from explorer.trial.causes import Cause, youngest_name
from explorer.trial.history import Change, History
from explorer.trial.kernels import Kernel
from explorer.trial.probes import Probe, Question, experiment_of
from protocol.findings import Finding
from protocol.records import PatchRecord
from protocol.vocabulary import KERNELS, PROFILES
from tests.conftest import Command, check_usage_error

PAIR = (("free", "set_freed"), ("use", "read_it"))


def finding(kind: str, name: str, function: str) -> Finding:
    return Finding(kind=kind, name=name, message="", step=1, time=1, function=function, flow="f")


def cause(kind: str, name: str, function: str, *, races: bool = True) -> Cause:
    return Cause(finding(kind, name, function), (PAIR,) if races else (), needs_no_race=not races)


FLAW = cause("use-after-free", "KmemCache", "kmemcg_workfn")


def history(shown: set[str], own: str = "v2") -> History:
    """A history in which the profiles *shown* have the flaw."""
    made = History(Question(Path("x.log"), NOTHING_GIVEN, FLAW, (), 100, 0), Kernel(own))
    for name in PROFILES:
        sign = FLAW.finding.signature if name in shown else ""
        made.plain[name] = Probe(kernel=Kernel(name), sign=sign, schedules=0 if sign else 100)
    made.search = Probe(kernel=Kernel(own), sign=FLAW.finding.signature, schedules=30)
    return made


def test_a_log_of_the_same_name_is_another_log(slabrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another folder, or written again: nothing is left of the first one in this process."""
    question = Question(Path("x.log"), NOTHING_GIVEN, FLAW, (), 1, 0)
    scenarios = []
    for folder, scenario, more in (("one", "rmdir-empty", ()), ("two", "nested", ()), ("two", "canary", ("--force",))):
        Path(folder).mkdir(exist_ok=True)
        with monkeypatch.context() as there:
            there.chdir(folder)
            slabrace("run", scenario, "--log", "x.log", *more)
            scenarios.append(experiment_of(question).header.scenario)

    assert scenarios == ["rmdir-empty", "nested", "canary"]


def test_the_flaw_comes_and_goes_where_neighbours_differ() -> None:
    assert history({"v2", "v3"}).changes(list(PROFILES)) == [
        Change(("v2",), is_cure=False),
        Change(("v4",), is_cure=True),
    ]
    assert history(set(PROFILES)).changes(list(PROFILES)) == [Change(("original",), is_cure=False)]


def test_a_masked_kernel_changes_nothing_between_two_with_the_flaw() -> None:
    made = history({"v2", "v4"})
    made.plain["v3"] = Probe(kernel=Kernel("v3"), schedules=100, ended=90, ended_by="deadlock:x:")

    assert made.status(made.plain["v3"]) == "masked"
    assert made.changes(list(PROFILES)) == [Change(("v2",), is_cure=False), Change(("v5",), is_cure=True)]


@pytest.mark.parametrize(
    ("schedules", "ended", "status"),
    [(8, 1, "absent"), (8, 4, "absent"), (8, 5, "masked"), (100, 81, "masked"), (100, 80, "absent")],
)
def test_a_kernel_is_masked_if_other_findings_leave_few_schedules(schedules: int, ended: int, status: str) -> None:
    made = history({"v2"})
    made.plain["v3"] = Probe(kernel=Kernel("v3"), schedules=schedules, ended=ended, ended_by="deadlock:x:")

    assert made.status(made.plain["v3"]) == status


def test_a_masked_kernel_at_the_edge_is_one_of_those_that_may_have_changed_it() -> None:
    made = history({"v2"})
    made.plain["v3"] = Probe(kernel=Kernel("v3"), schedules=100, ended=90, ended_by="deadlock:x:")

    assert made.changes(list(PROFILES))[-1] == Change(("v3", "v4"), is_cure=True)


def test_a_fix_that_reveals_the_flaw_says_that_it_was_masked() -> None:
    made = history({"v2", "v4"})
    made.added["v3", "rcu-lock-for-unlock"] = Probe(kernel=Kernel("v3"), sign=FLAW.finding.signature)

    assert made.masks(Kernel("v3")) == ["rcu-lock-for-unlock"]
    assert made.status(made.plain["v3"]) == "masked"


def test_kernels_that_are_masked_alike_share_a_line() -> None:
    made = history({"v2", "v6"})
    for name in ("v3", "v4", "v5"):
        made.plain[name] = Probe(kernel=Kernel(name), schedules=100, ended=90, ended_by="deadlock:x:")
    for fix in ("rcu-lock-for-unlock", "stranded-vmstat"):
        made.added["v5", fix] = Probe(kernel=Kernel("v5"), sign=FLAW.finding.signature)

    assert answer_lines(made) == [
        "introduced by v2",
        "cured by v7",
        "masked on v3, v4 by deadlock:x:, which comes first",
        "masked on v5 by deadlock:x:, which comes first: with rcu-lock-for-unlock or stranded-vmstat it shows",
    ]


def test_kernels_with_another_flaw_share_a_line() -> None:
    made = history({"v2", "v3", "v4", "v5"})
    fixed = Kernel("v2", (PatchRecord("sleep-in-rcu-charge"),))
    made.added["v2", "sleep-in-rcu-charge"] = Probe(kernel=fixed, schedules=100)

    assert answer_lines(made)[-1] == "another flaw with this sign on v4, v5: sleep-in-rcu-charge is built in"


def test_a_kernel_with_the_fix_that_shows_the_sign_has_another_flaw() -> None:
    made = history({"v2", "v3", "v4"})
    fixed = Kernel("v2", (PatchRecord("sleep-in-rcu-charge"),))
    made.added["v2", "sleep-in-rcu-charge"] = Probe(kernel=fixed, schedules=100)

    assert made.cures == ["sleep-in-rcu-charge"]
    assert made.status(made.plain["v3"]) == "shown"
    assert made.status(made.plain["v4"]) == "another"


def test_a_fix_is_no_cure_if_the_flaw_is_too_rare_for_the_budget() -> None:
    made = history({"v2", "v3", "v4"})
    fixed = Kernel("v2", (PatchRecord("sleep-in-rcu-charge"),))
    made.added["v2", "sleep-in-rcu-charge"] = Probe(kernel=fixed, schedules=80)

    assert made.cures == []
    assert made.status(made.plain["v4"]) == "shown"


@pytest.mark.parametrize(
    ("other", "is_it"),
    [
        (cause("use-after-free", "KmemCache", "kmemcg_after_rcu_workfn"), True),  # the function's name of v5
        (cause("null-deref", "x", "y"), True),  # the pair
        (cause("null-deref", "x", "y", races=False), False),
        (cause("leak", "KmemCache", "kmemcg_workfn"), False),  # another sort
    ],
)
def test_two_findings_are_one_flaw(other: Cause, *, is_it: bool) -> None:
    assert bool(other.is_sign_of(FLAW)) is is_it
    assert bool(FLAW.is_sign_of(other)) is is_it


def test_without_a_race_the_object_or_the_function_decides() -> None:
    flaw = cause("use-after-free", "KmemCache", "f", races=False)

    assert cause("use-after-free", "KmemCache", "g", races=False).is_sign_of(flaw)
    assert cause("null-deref", "s->x", "f", races=False).is_sign_of(flaw)
    assert not cause("null-deref", "s->x", "g", races=False).is_sign_of(flaw)


def test_a_leak_is_known_by_its_holder() -> None:
    cache = cause("leak", "kmem_cache held by an empty cpu slab", "", races=False)
    memcg = cause("leak", "mem_cgroup held by an empty cpu slab", "", races=False)
    nobody = cause("leak", "mem_cgroup held by nobody", "", races=False)

    assert memcg.is_sign_of(cache)
    assert not nobody.is_sign_of(cache)


def test_a_name_of_an_older_version_is_the_youngest_name_of_its_function() -> None:
    assert youngest_name("kmemcg_deactivate_workfn") == youngest_name("kmemcg_workfn") == "kmemcg_workfn"
    assert youngest_name("of_no_kernel") == "of_no_kernel"


def test_a_flaw_of_v7_was_cured_by_the_fix_of_5_3(slabrace: Command) -> None:
    slabrace("run", "rmdir-empty", "--kernel", "v7", "--seed", 2, "--log", "v7.log")
    answer = slabrace("bisect", "v7.log", "--budget", 8, "--json")
    told = json.loads(answer.out)
    status = {one["kernel"]: one["status"] for one in told["kernels"]}

    assert answer.code == 0
    assert list(status) == list(KERNELS)
    assert told["introduced_by"][0] == "v1"
    assert told["cured_by"] == ["5.3"]
    assert told["cured_by_fixes"] == ["work-fn-store-after-free"]
    assert {status[name] for name in ("original", "5.3", "5.4-fixed")} == {"absent"}


@pytest.mark.slow
def test_a_log_of_a_patch_is_introduced_by_the_patch(slabrace: Command) -> None:
    patch = Path(__file__).with_name("patches") / "wq_lock_irqs_on.py"
    found = slabrace("explore", "softirq-free-vs-destroy", "--kernel", "v6", "--patch", patch, "--budget", 40, "--json")
    log = next(one["log"] for one in json.loads(found.out)["findings"] if one["kind"] == "lockdep")
    told = json.loads(slabrace("bisect", log, "--patch", patch, "--budget", 40, "--json").out)

    assert told["introduced_by_changes"] == ["wq_lock_irqs_on.py"]
    assert "introduced by wq_lock_irqs_on.py" in slabrace("bisect", log, "--trust", "--budget", 40).out


def test_a_log_without_a_finding_is_refused(slabrace: Command) -> None:
    slabrace("run", "rmdir-empty", "--log", "ok.log")

    assert check_usage_error(slabrace("bisect", "ok.log")).endswith("ok.log: nothing was found in this run")


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in ROWS if row.needs_no_race], ids=lambda row: row.slug)
def test_the_history_of_a_known_flaw_is_the_table_s(row: Row) -> None:
    """`python -m benchmarks bisect` has all rows; flaws that need a race take longer searches."""
    assert bisect_row(row, budget=60, workers=1).wrong == ()
