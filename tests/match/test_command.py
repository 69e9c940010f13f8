"""`slabrace match`: its output, its exit codes, and the log that it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from explorer.cli import main
from explorer.experiment import DRIVERS
from explorer.match.search import SearchResult, search
from explorer.session import replay
from protocol.log import LogReader
from protocol.records import DEFINITIONS, PhaseRecord, Record, Step
from tests.match.traces import CAPTURES, DATA, Capture

each_capture = pytest.mark.parametrize("capture", CAPTURES, ids=str)
KEYS = """
    schema outcome trace scenario kernel patches lines matched skipped lost_events flows cpus after parted is_proof
    schedules steps digest findings log seconds
"""
"""The keys of the JSON object, in their order."""


@attrs.frozen
class Told:
    """The result of one command."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.out)
        return answer


Command = Callable[..., Told]


@pytest.fixture
def match(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run `slabrace match` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Told:
        capsys.readouterr()
        code = main(["match", *map(str, arguments)])
        captured = capsys.readouterr()
        return Told(code, captured.out, captured.err)

    return run


def read(path: Path) -> tuple[LogReader, list[Record]]:
    """A log, read to its end, and its records."""
    log = LogReader(path)
    records = [record for _, record in log.records()]
    log.close()
    return log, records


@each_capture
def test_a_match_writes_a_log_that_replays_under_both_drivers(match: Command, capture: Capture) -> None:
    told = match(capture.path, "--kernel", capture.kernel, "--log", "m.log", "--json")

    assert told.code == 0, told.err
    assert list(told.answer) == KEYS.split()
    assert told.answer["outcome"] == "match"
    assert told.answer["scenario"] == capture.scenario
    assert told.answer["matched"] == told.answer["lines"]
    assert (told.answer["parted"], told.answer["findings"], told.answer["log"]) == (None, [], "m.log")
    for driver in DRIVERS:
        result = replay(Path("m.log"), driver=driver)
        assert (result.outcome, result.steps, result.digest) == ("ok", told.answer["steps"], told.answer["digest"])
        assert result.stopped == "quiescent"


def test_the_log_of_a_match_is_a_log_like_any_other(match: Command) -> None:
    capture = Capture("5.3.1", "rmdir-held")
    match(capture.path, "--kernel", "5.3", "--log", "m.log")
    log, records = read(Path("m.log"))

    assert (log.header.scenario, log.header.kernel, log.header.strategy) == ("traced-rmdir-held", "5.3", "match")
    assert {*DEFINITIONS, PhaseRecord} <= {type(record) for record in records}
    assert log.footer is not None
    assert (log.footer.outcome, log.damage) == ("ok", None)


def test_virtual_time_is_that_of_the_trace(match: Command) -> None:
    """The trace covers 2.4 s from the first line to the last."""
    match(Capture("5.3.1", "rmdir-held").path, "--kernel", "5.3", "--log", "m.log")
    _, records = read(Path("m.log"))
    race = records.index(PhaseRecord("race"))
    steps = [record.dt for record in records[race:] if isinstance(record, Step)]

    assert 1.239e9 < sum(steps) < 1.25e9  # 14.567007 to 15.806699


def test_without_a_match_the_log_ends_at_the_divergence(match: Command) -> None:
    told = match(Capture("5.2.1", "rmdir-held").path, "--kernel", "5.3", "--budget", 4, "--log", "m.log", "--json")

    assert told.code == 1
    assert told.answer["outcome"] == "no-match"
    assert told.answer["parted"]["last"]["function"] == "css_killed_ref_fn"
    assert told.answer["parted"]["trace"][0]["line"] == 22
    for driver in DRIVERS:
        result = replay(Path("m.log"), driver=driver)
        assert (result.outcome, result.steps, result.stopped) == ("ok", told.answer["steps"], "log ended")
        (softirq,) = (position for position in result.positions if position.flow == "si/0")
        assert softirq.stack[0] == "percpu_ref_exit"


def test_the_text_says_how_far_it_came_and_what_was_in_the_way(match: Command) -> None:
    told = match(Capture("5.2.1", "rmdir-idle").path, "--kernel", "v7")

    assert told.code == 1
    for part in (
        "on v7, traced-rmdir-idle: 17 of 70 lines matched, 2 schedules",
        "CPU 0 = cpu0, task-43 = parent, softirq on CPU 0 = si/0, kworker/0:1-19 = kworker/0:0",
        "skipped: tracing_mark_write (3), marks: ",
        "the last matched line  line 30: kworker/0:1-19 enters __kmemcg_cache_deactivate()",
        "the trace then         line 31: kworker/0:1-19 enters slab_deactivate_memcg_cache_rcu_sched()",
        "the model then         step ",
        "in the way             v7 has no slab_deactivate_memcg_cache_rcu_sched(); there is one in original",
        "no match: no schedule of this kernel gets further",
    ):
        assert part in told.out


def test_a_match_prints_the_line_to_replay_it(match: Command) -> None:
    told = match(Capture("5.2.1", "create").path, "--kernel", "original", "--log", "a log")

    assert told.code == 0
    assert "19 of 19 lines matched" in told.out
    assert "replay: slabrace replay 'a log'" in told.out


def test_a_finding_of_the_matched_schedule_is_told(match: Command) -> None:
    """[v1] drops one reference too many (KERNEL-v1-v3.md); the trace of a creation does not show this."""
    told = match(Capture("5.3.1", "create").path, "--kernel", "v1", "--json")

    assert (told.code, told.answer["outcome"]) == (0, "match")
    assert "refcount" in {finding["kind"] for finding in told.answer["findings"]}


def test_an_interrupted_search_says_so(match: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **options: Any) -> SearchResult:
        return attrs.evolve(search(*arguments, **options), is_interrupted=True)

    monkeypatch.setattr("explorer.cli.match.search", interrupted)
    told = match(Capture("5.2.1", "rmdir-idle").path, "--kernel", "5.3", "--budget", 3)

    assert told.code == 130
    assert "interrupted: this is the best so far" in told.out


def test_a_scenario_of_ones_own_choice_is_tried_alone(match: Command) -> None:
    told = match(
        Capture("5.3.1", "rmdir-idle").path,
        "--kernel",
        "5.3",
        "--scenario",
        "rmdir-under-load",
        "--budget",
        2,
        "--json",
    )

    assert (told.code, told.answer["scenario"]) == (1, "rmdir-under-load")


def test_knobs_are_set_in_the_scenario(match: Command) -> None:
    """Four more files than the traced program made, so four allocations that are not in the trace."""
    told = match(Capture("5.3.1", "create").path, "--kernel", "5.3", "--set", "files=9", "--budget", 2, "--json")

    assert told.code == 1
    assert "the trace has no further line" in told.answer["parted"]["obstacle"]


def test_a_patch_is_laid_over_the_kernel(match: Command, tmp_path: Path) -> None:
    """Without the flush at offline, 5.3 diverges from its own trace at that point."""
    patch = tmp_path / "no_flush.py"
    patch.write_text(
        "from actors.api import kernel_fn\n\n"
        '@kernel_fn("memcg_flush_percpu_vmstats", "mm/memcontrol.c", known_as="memcg_flush_nothing")\n'
        "async def memcg_flush_percpu_vmstats(ctx, memcg, *, slab_only):\n"
        '    """Flush nothing, under another name."""\n'
    )
    told = match(Capture("5.3.1", "rmdir-idle").path, "--kernel", "5.3", "--patch", patch, "--budget", 2, "--json")

    assert told.code == 1
    assert told.answer["parted"]["trace"][0]["function"] == "memcg_flush_percpu_vmstats"


def test_an_ignored_function_is_compared_no_more(match: Command) -> None:
    capture = Capture("5.3.1", "rmdir-idle")
    text = "\n".join(
        line for line in capture.text().splitlines() if "file_free_rcu" not in line and "entries-in" not in line
    )
    Path("t.txt").write_text(text)

    assert match("t.txt", "--kernel", "5.3", "--budget", 2).code == 1
    told = match("t.txt", "--kernel", "5.3", "--ignore", "file_free_rcu", "--json")
    assert (told.code, told.answer["matched"]) == (0, 94 - 3)


def test_a_filter_says_what_was_traced(match: Command) -> None:
    """Only two functions were traced, so no other function is expected."""
    capture = Capture("5.3.1", "rmdir-idle")
    kept = [line for line in capture.text().splitlines() if " css_free_rwork_fn " in line or " kill_css " in line]
    Path("t.txt").write_text("\n".join(["# tracer: function", *kept]))
    Path("f.txt").write_text("css_free_rwork_fn\nkill_css\n")

    assert match("t.txt", "--kernel", "5.3", "--budget", 2).code == 1
    assert match("t.txt", "--kernel", "5.3", "--filter", "f.txt").code == 0


USAGE = {
    "no such file": (["nowhere.txt", "--kernel", "5.3"], "nowhere.txt: cannot read it: No such file or directory"),
    "a folder": ([".", "--kernel", "5.3"], ".: cannot read it: Is a directory"),
    "no kernel": ([DATA / "ftrace-linux-5.3.1-create.txt"], "the following arguments are required: --kernel"),
    "unknown kernel": ([DATA / "ftrace-linux-5.3.1-create.txt", "--kernel", "6.1"], "--kernel 6.1: there is no such"),
    "unknown scenario": (
        [DATA / "ftrace-linux-5.3.1-create.txt", "--kernel", "5.3", "--scenario", "x"],
        "x: there is no such scenario",
    ),
    "unknown knob": ([DATA / "ftrace-linux-5.3.1-create.txt", "--kernel", "5.3", "--set", "x=1"], "--set x: "),
    "bad budget": (
        [DATA / "ftrace-linux-5.3.1-create.txt", "--kernel", "5.3", "--budget", "many"],
        "give a whole number, one or more",
    ),
    "not a trace": ([__file__, "--kernel", "5.3"], f"{__file__}:1: expected '# tracer: function'"),
    "no filter": (
        [DATA / "ftrace-linux-5.3.1-create.txt", "--kernel", "5.3", "--filter", "nowhere"],
        "nowhere: cannot read it",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), USAGE.values(), ids=list(USAGE))
def test_a_usage_error_is_one_line(match: Command, arguments: list[object], message: str) -> None:
    told = match(*arguments)

    assert told.code == 2
    assert message in told.err
    assert told.err.startswith("slabrace: ")
    assert told.err.count("\n") == 1
    assert not told.out


def test_a_trace_with_nothing_to_compare_is_refused(match: Command) -> None:
    Path("t.txt").write_text("# tracer: function\ntask-1 [000] .... 1.000001: schedule <-x\n")
    told = match("t.txt", "--kernel", "5.3")

    assert told.code == 2
    assert "t.txt: there is no line to compare, only schedule" in told.err


def test_a_log_is_not_replaced_unasked(match: Command) -> None:
    Path("m.log").write_bytes(b"precious")
    told = match(Capture("5.2.1", "create").path, "--kernel", "original", "--log", "m.log")

    assert told.code == 2
    assert "m.log: a file with this name exists" in told.err
    assert Path("m.log").read_bytes() == b"precious"
    assert match(Capture("5.2.1", "create").path, "--kernel", "original", "--log", "m.log", "--force").code == 0
    assert replay(Path("m.log"), driver="stepper").outcome == "ok"
