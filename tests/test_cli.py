"""The command line: the output of each command, its JSON, and its exit codes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import pytest

import scenarios
from actors.fixes import ALL_FIXES
from explorer.experiment import DRIVERS
from explorer.report import LiveProgress
from explorer.search.registry import SEARCHES
from protocol.findings import ORACLES
from protocol.vocabulary import KERNELS
from tests.conftest import Command
from tests.helpers import (
    MODULE,
    SCRIPT,
    crashes,
    each_driver_name,
    each_scenario,
    fails,
    install,
    make_scenario,
    make_world,
    quiet,
    run_process,
    run_small,
    small_settings,
    some_machine,
    start_process,
    warns,
)


@pytest.fixture(autouse=True)
def known_scenarios(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the scenarios with known outcomes, for every test of this module."""
    install(monkeypatch, *(make_scenario(body.__name__, body) for body in (quiet, warns, crashes, fails)))


# -- list -------------------------------------------------------------------------------------------------------------

CATALOGUES: dict[str, Callable[[], Iterable[str]]] = {
    "scenarios": lambda: [scenario.name for scenario in (*scenarios.SCENARIOS, *scenarios.OF_TODAY)],
    "kernels": lambda: KERNELS,
    "patches": lambda: [fix.slug for fix in ALL_FIXES],
    "strategies": lambda: SEARCHES,
    "oracles": lambda: ORACLES,
}


@pytest.mark.parametrize("what", CATALOGUES)
def test_list_names_all_there_are_each_with_a_summary(slabrace: Command, what: str) -> None:
    answer = slabrace("list", what)
    entries = json.loads(slabrace("list", what, "--json").out)

    assert answer.code == 0
    assert [entry["name"] for entry in entries] == list(CATALOGUES[what]())
    for entry in entries:
        assert entry["summary"]
        assert entry["name"] in answer.out
        assert entry["summary"] in answer.out


def test_list_alone_lists_everything(slabrace: Command) -> None:
    answer = slabrace("list")
    entries = json.loads(slabrace("list", "--json").out)

    assert answer.code == 0
    assert [entry["name"] for entry in entries] == [name for names in CATALOGUES.values() for name in names()]
    assert {entry["kind"] for entry in entries} == set(CATALOGUES)


def test_list_shows_the_knobs_of_every_scenario_with_their_defaults(slabrace: Command) -> None:
    text = slabrace("list", "scenarios").out
    entries = json.loads(slabrace("list", "scenarios", "--json").out)
    for scenario, entry in zip((*scenarios.SCENARIOS, *scenarios.OF_TODAY), entries, strict=True):
        assert [knob["name"] for knob in entry["knobs"]] == [knob.name for knob in scenario.knobs]
        for knob in scenario.knobs:
            assert f"{knob.name}={knob.default}: {knob.summary}" in text


def test_list_counts_what_differs_by_file_where_it_is_much(slabrace: Command) -> None:
    """There are hundreds between 5.4 and 6.12: the text has a line for each file, the JSON each function."""
    text = slabrace("list", "kernels").out
    differs = {entry["name"]: entry["differs"] for entry in json.loads(slabrace("list", "kernels", "--json").out)}
    (of_612,) = re.findall(r"^  6\.12 .*\n((?: {10}.*\n)+)", text, re.MULTILINE)
    counts = [int(count) for count in re.findall(r"^ +(\d+) in \S+\.[ch]$", of_612, re.MULTILINE)]

    assert f" {len(differs['6.12'])} functions differ" in of_612
    assert sum(counts) == len(differs["6.12"]) > 200
    assert counts == sorted(counts, reverse=True)
    for each in differs["5.3"]:
        assert f"{each['function']}() in {each['file']}: {each['summary']}\n" in text


# -- run --------------------------------------------------------------------------------------------------------------

RESULT_KEYS = {
    "outcome",
    "scenario",
    "kernel",
    "patches",
    "strategy",
    "driver",
    "seed",
    "steps",
    "digest",
    "log",
    "final",
    "findings",
    "schedules",
    "unreached",
    "seconds",
}
FINDING_KEYS = {"kind", "name", "function", "step", "signature", "count", "first_schedule", "log"}
FINAL_KEYS = {"nr_dying_descendants", "kmem_caches", "zombie_caches", "slab_pages"}


@each_driver_name
def test_run_prints_one_json_object_with_the_keys_that_stay(slabrace: Command, driver: str) -> None:
    answer = slabrace("run", "quiet", "--driver", driver, "--seed", 3, "--log", "x.log", "--json")
    told = json.loads(answer.out)

    assert answer.out.count("\n") == 1
    assert answer.err == ""
    assert set(told) >= RESULT_KEYS
    assert set(told["final"]) >= FINAL_KEYS
    assert {key: told[key] for key in ("outcome", "scenario", "kernel", "patches", "strategy", "driver", "seed")} == {
        "outcome": "ok",
        "scenario": "quiet",
        "kernel": "5.3",
        "patches": [],
        "strategy": "random",
        "driver": driver,
        "seed": 3,
    }
    assert (told["log"], told["findings"], told["schedules"]) == ("x.log", [], 1)
    assert told["unreached"] == ["it counts for ever"]


@each_scenario
def test_run_runs_every_scenario(slabrace: Command, name: str) -> None:
    kernel, _ = some_machine(name, "cli")
    knobs = [f"--set={knob}={value}" for knob, value in small_settings(name).items()]
    answer = slabrace("run", name, "--kernel", kernel, "--no-log", "--json", *knobs)
    told = json.loads(answer.out)

    assert told["kernel"] == kernel
    assert told["steps"] > 0
    assert answer.code == {"ok": 0, "finding": 1}[told["outcome"]]
    assert bool(told["findings"]) == (told["outcome"] == "finding")


def test_a_run_without_a_finding_exits_with_0_and_says_so(slabrace: Command) -> None:
    answer = slabrace("run", "quiet", "--no-log")

    assert answer.code == 0
    assert "ok: nothing found" in answer.out


def test_a_run_says_which_sometimes_was_never_reached(slabrace: Command) -> None:
    answer = slabrace("run", "quiet", "--no-log")

    assert "never reached: sometimes 'it counts for ever'" in answer.out
    assert "sometimes 'it counts'" not in answer.out


def test_a_run_says_its_seed_and_its_knobs_before_anything_else(slabrace: Command) -> None:
    knobs = ["--set", "cpus=3", "--set", "objects=2"]
    lines = slabrace("run", "rmdir-under-load", "--seed", 41, "--strategy", "clock", *knobs).out.splitlines()

    assert "rmdir-under-load on 5.3" in lines[0]
    for knob in ("strategy clock", "seed 41", "driver trio", "check step", metadata.version("slabrace")):
        assert knob in lines[0]
    for knob in ("cpus=3", "objects=2", "cgroups=2"):
        assert knob in lines[1]


@each_driver_name
@pytest.mark.parametrize("name", ["warns", "crashes"])
def test_a_finding_exits_with_1_and_is_told_in_json(slabrace: Command, driver: str, name: str) -> None:
    answer = slabrace("run", name, "--driver", driver, "--log", "x.log", "--json")
    (finding,) = json.loads(answer.out)["findings"]
    function = {"warns": "kmem_cache_warn", "crashes": "kmem_cache_crash"}[name]

    assert answer.code == 1
    assert set(finding) >= FINDING_KEYS
    assert finding["kind"] == {"warns": "warn", "crashes": "bug"}[name]
    assert finding["function"] == function
    assert finding["signature"] == f"{finding['kind']}:{finding['name']}:{function}"
    assert finding["count"] == {"warns": 2, "crashes": 1}[name]
    assert (finding["step"], finding["log"], finding["first_schedule"]) == (2, "x.log", 0)


def test_a_finding_is_printed_as_the_kernel_would_with_the_steps_before_it(slabrace: Command) -> None:
    """The terminal shows all of its text: brackets of C code are not taken for colour markup."""
    answer = slabrace("run", "warns", "--log", "x.log")

    for text in (
        "------------[ cut here ]------------",
        "WARNING: entries[i] != NULL",
        "warn in kmem_cache_warn(), step 2",
        "2 times",
        "flow: task[0] on CPU 0",
        "Call Trace:",
        "signature: warn:entries[i] != NULL:kmem_cache_warn",
        "---[ end trace ]---",
        "1 finding",
        "a [bold]cell[/bold]",
    ):
        assert text in answer.out
    header = next(line for line in answer.out.splitlines() if line.startswith("step"))
    row = next(line for line in answer.out.splitlines() if "a [bold]cell[/bold]" in line)
    assert header.split() == ["step", "ms", "cpu", "flow", "function", "operation", "of", "enabled"]
    assert {"0", "task[0]", "kmem_cache_warn", "add", "1"} <= set(row.split())


def test_a_run_ends_with_where_the_log_is_and_the_line_that_replays_it(slabrace: Command, tmp_path: Path) -> None:
    answer = slabrace("run", "quiet")
    (log,) = (tmp_path / "runs").iterdir()
    last, line = answer.out.splitlines()[-2:]

    assert last == f"log: runs/{log.name}"
    assert line == f"replay: slabrace replay runs/{log.name}"
    assert slabrace(*line.removeprefix("replay: slabrace ").split()).code == 0


@pytest.mark.parametrize("folder", ["with space", "[red]", "[/red]", "quote's", "ünï"])
def test_the_line_that_replays_a_log_can_be_pasted_whatever_its_name(slabrace: Command, folder: str) -> None:
    answer = slabrace("run", "quiet", "--log", f"{folder}/x.log")
    line = answer.out.splitlines()[-1]

    assert answer.code == 0
    assert slabrace(*shlex.split(line.removeprefix("replay: slabrace "))).code == 0


def test_a_log_without_a_name_gets_one_that_is_not_taken(slabrace: Command, tmp_path: Path) -> None:
    for _ in range(3):
        slabrace("run", "quiet", "--seed", 9)
    slabrace("run", "quiet", "--seed", 10)

    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert len(names) == 4
    assert len([name for name in names if "-9" in name]) == 3


def test_no_log_writes_no_log(slabrace: Command, tmp_path: Path) -> None:
    answer = slabrace("run", "quiet", "--no-log", "--json")

    assert json.loads(answer.out)["log"] is None
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_forced(slabrace: Command, tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("precious")
    refused = slabrace("run", "quiet", "--log", path)

    assert refused.code == 2
    assert path.read_text() == "precious"
    assert "--force" in refused.err

    forced = slabrace("run", "quiet", "--log", path, "--force")
    assert forced.code == 0
    assert slabrace("replay", path).code == 0


@pytest.mark.parametrize("check", ["off", "quiescent", "step"])
def test_how_much_is_checked_is_an_option_that_a_replay_keeps(slabrace: Command, check: str) -> None:
    told = json.loads(slabrace("run", "nested", "--check", check, "--log", "x.log", "--json").out)
    again = json.loads(slabrace("replay", "x.log", "--json").out)

    assert (again["digest"], again["outcome"]) == (told["digest"], told["outcome"])
    assert f"check {check}" in slabrace("replay", "x.log").out


# -- the real process -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["python -m slabrace", "slabrace"])
def test_the_command_and_the_module_are_the_same(command: tuple[str, ...], tmp_path: Path) -> None:
    found = run_process(*command, "run", "canary", "--set", "rounds=50", "--log", "x.log", cwd=tmp_path)
    replayed = run_process(*command, "replay", "x.log", "--json", cwd=tmp_path)
    wrong = run_process(*command, "run", "nothing", cwd=tmp_path)

    assert (found.returncode, found.stderr) == (1, "")
    assert (replayed.returncode, json.loads(replayed.stdout)["outcome"]) == (1, "finding")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("slabrace: nothing: there is no such scenario")


def test_help_exits_with_0_and_names_every_command(tmp_path: Path) -> None:
    answer = run_process(*MODULE, "--help", cwd=tmp_path)

    assert answer.returncode == 0
    for command in ("list", "run", "replay", "log"):
        assert command in answer.stdout


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """`slabrace log x.log | head -1` prints a line and nothing about broken pipes."""
    run_small("shared-dentry", log=tmp_path / "x.log")
    with start_process(*MODULE, "log", "x.log", "--json", cwd=tmp_path) as head:
        assert head.stdout is not None
        assert head.stderr is not None
        line = head.stdout.readline()
        head.stdout.close()
        errors = head.stderr.read()

    assert json.loads(line)["event"]
    assert errors == ""
    assert head.returncode == 0


def test_make_demo_compares_two_kernels(tmp_path: Path) -> None:
    for kernel in ("original", "5.3"):
        run_small("shared-dentry", kernel, log=tmp_path / f"{kernel}.log")
    answer = run_process(*MODULE, "compare", "original.log", "5.3.log", cwd=tmp_path)

    assert (answer.returncode, answer.stderr) == (0, "")
    for text in ("dying cgroups", "original", "5.3", "g1", "g2", "rel2"):
        assert text in answer.stdout


def test_every_driver_can_be_chosen(slabrace: Command) -> None:
    digests = {
        json.loads(slabrace("run", "quiet", "--driver", driver, "--no-log", "--json").out)["digest"]
        for driver in DRIVERS
    }

    assert len(digests) == 1


# -- progress ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that advances by a fixed number of seconds at each reading."""

    def tick(seconds: float) -> None:
        now = 0.0

        def monotonic() -> float:
            nonlocal now
            now += seconds
            return now

        monkeypatch.setattr("explorer.report.time.monotonic", monotonic)

    return tick


class FakeStatus:
    """The progress line without its drawing thread."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def start(self) -> None: ...
    def stop(self) -> None: ...

    def update(self, text: str) -> None:
        self.texts.append(text)


def test_progress_is_silent_for_two_seconds_then_five_times_a_second(
    monkeypatch: pytest.MonkeyPatch, slow_clock: Callable[[float], None]
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    status = FakeStatus()
    monkeypatch.setattr("rich.console.Console.status", lambda *_, **__: status)
    slow_clock(0.04)
    world, _ = make_world()
    progress = LiveProgress()
    shown = []
    for _ in range(100):
        progress(world)
        shown.append(len(status.texts))
    progress.close()

    assert shown.index(1) == pytest.approx(2 / 0.04, abs=3)
    assert shown[-1] == pytest.approx(2 / 0.2, abs=3)
    assert str(status.texts[-1]) == "0 steps, 0.000 s of virtual time"


@pytest.mark.parametrize(
    ("terminal", "seconds", "is_shown"), [(True, 1.0, True), (True, 0.0, False), (False, 1.0, False)]
)
def test_progress_is_shown_on_a_terminal_for_a_run_that_takes_more_than_two_seconds(
    slabrace: Command,
    monkeypatch: pytest.MonkeyPatch,
    slow_clock: Callable[[float], None],
    *,
    terminal: bool,
    seconds: float,
    is_shown: bool,
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1" if terminal else "0")
    slow_clock(seconds)
    answer = slabrace("run", "shared-dentry", "--no-log", "--json")

    assert answer.code == 0
    assert ("of virtual time" in answer.err) == is_shown
    assert json.loads(answer.out)["outcome"] == "ok"
