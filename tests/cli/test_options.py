"""No option is silently ignored, taken for another, or answered with a false message."""

from __future__ import annotations

import itertools
import json
import math
from importlib import metadata
from pathlib import Path

import pytest

from actors.system.world import World
from explorer.cli import main
from explorer.cli.shrink import limits
from explorer.cli.usage import EXIT_NOT_EXHAUSTED, make_parser
from explorer.experiment import DRIVERS, Experiment
from tests.conftest import Command, check_usage_error
from tests.tidy.sources import ROOT

TRACE = ROOT / "tests" / "data" / "ftrace-linux-5.3.1-create.txt"
CANARY = ("canary", "--set", "rounds=1", "--seed", "1")
PATCH = """
from actors.api import kernel_fn

@kernel_fn("kmemcg_workfn", "mm/slab_common.c", profiles="..5.4-fixd")
async def kmemcg_workfn(ctx, work):
    pass
"""


@pytest.fixture
def log(slabrace: Command) -> Path:
    """A log of 44 steps that shows a lost update."""
    assert slabrace("run", *CANARY, "--log", "canary.log").code == 1
    return Path("canary.log")


# -- version, help and unknown names ----------------------------------------------------------------------------------


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"slabrace {metadata.version('slabrace')}\n"


def test_without_a_command_there_is_help_and_no_success(slabrace: Command) -> None:
    answer = slabrace()

    assert (answer.code, answer.out) == (2, "")
    for command in make_parser().commands:
        assert f"    {command}" in answer.err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["exlpore", "canary"], "explore"),
        (["explore", "canary", "--buget", "3"], "--budget"),
        (["run", "canari"], "canary"),
        (["run", "canary", "--kernel", "5.4fixed"], "5.4-fixed"),
        (["run", "canary", "--strategy", "randon"], "random"),
        (["run", "canary", "--driver", "stepepr"], "stepper"),
        (["run", "canary", "--check", "quiet"], "quiescent"),
        (["run", "canary", "--set", "cpu=1"], "cpus"),
        (["run", "canary", "--set", "allocator=slap"], "slab"),
        (["run", "canary", "--fault", "pages=0.5"], "page"),
        (["run", "canary", "--patch", "work-fn-store-after-fre"], "work-fn-store-after-free"),
        (["run", "canary", "--without", "missing-tid-stop"], "missing-tid-step"),
        (["run", "rmdir-empty", "--strategy", "surw:memcg_kmem_wq_look"], "memcg_kmem_wq_lock"),
        (["explore", "canary", "--strategy", "dpro"], "dpor"),
        (["explain", "canary.log", "--format", "htm"], "html"),
        (["explain", "canary.log", "--signature", "bug:canary: an update was loost:canary_check"], "bug:canary"),
        (["slabinfo", "canary.log", "--file", "slabinfo_ful"], "slabinfo_full"),
        (["slabinfo", "canary.log", "--file", "a/memory.sta"], "memory.stat"),
        (["slabinfo", "canary.log", "--file", "sesion/memory.stat"], "session"),
        (["run", "canary", "--patch", "wrong.py"], "5.4-fixed"),
        (["match", TRACE, "--kernel", "5.3", "--ignore", "memcg_create_kmem_cach"], "memcg_create_kmem_cache"),
        (["growth", "--kernel", "5.4-fix"], "5.4-fixed"),
        (["list", "scenario"], "scenarios"),
        (["completion", "bsh"], "bash"),
    ],
    ids=lambda value: " ".join(map(str, value))[-40:] if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("log")
def test_a_name_that_is_not_known_is_answered_with_the_nearest(
    slabrace: Command, arguments: list[str], meant: str
) -> None:
    Path("wrong.py").write_text(PATCH)

    assert f"do you mean '{meant}" in check_usage_error(slabrace(*arguments))


# -- refused instead of ignored ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["explore", "canary", "--budg", "5"], "--budg: there is no such option"),
        (["explore", "canary", "--budget", "5", "--budget", "6"], "--budget: it is given twice"),
        (["explore", "canary", "--budget=5", "--budget", "5"], "--budget: it is given twice"),
        (["run", "canary", "--seed", "-1"], "'-1': give a whole number, zero or more"),
        (["explore", "canary", "--budget", "0"], "'0': give a whole number, one or more"),
        (["run", "canary", "canary"], "canary: unexpected argument"),
        (["run", "canary", "-q"], "-q: unexpected argument"),
        (["run", "canary", "--set", "rounds=1", "--set", "rounds=2"], "--set rounds: it is given twice"),
        (["run", "canary", "--fault", "page=0", "--fault", "page=0.1"], "--fault page: it is given twice"),
        (["run", "rmdir-empty", "--kernel", "v7", "--patch", "x.py", "--patch", "./x.py"], "--patch x.py: it is"),
        (
            ["run", "canary", "--kernel", "5.4-fixed", *("--without", "missing-tid-step") * 2],
            "--without missing-tid-step: it is given twice",
        ),
        (["run", "canary", "--force"], "--force: it is about --log"),
        (["run", "canary", "--force", "--no-log"], "--force: it is about --log"),
        (["run", "canary", "--strategy", "dpor"], "use it with slabrace explore"),
        (["run", "canary", "--strategy", "portfolio"], "use it with slabrace explore"),
        (["run", "canary", "--strategy", "pct:"], "give pct:D, or pct alone"),
        (["run", "canary", "--strategy", "surw:NOSUCH"], "there is no such object in the race"),
        (["explore", "canary", "--strategy", "surw:NOSUCH"], "there is no such object in the race"),
        (["explore", "canary", "--strategy", "portfolio:surw:NOSUCH"], "there is no such object in the race"),
        (["explore", "canary", "--strategy", "dfs:"], "give dfs:BOUND, or dfs alone"),
        (["explore", "canary", "--strategy", "portfolio:2"], "there is no such strategy"),
        (["explore", "canary", "--strategy", "dpor", "--seed", "2"], "leave out --seed"),
        (["explore", "canary", "--strategy", "dfs", "--workers", "2"], "leave out --workers"),
        (["explore", "canary", "--strategy", "random", "--require-exhausted"], "random never comes to an end"),
        (["selftest", "canary", "--schedules", "0", "--pairs", "0"], "nothing is left to try"),
        (["selftest", "canary", "--strategy", "best"], "there is no such strategy"),
        (["explore", "--from", "canary.log", "--at", "32", "--kept", "."], "leave out --kept"),
        (["explore", "--from", "canary.log", "--at", "32", "--check", "off"], "leave out --check"),
        (["replay", "canary.log", "--until", "45"], "there is no step 45: the log ends after step 44"),
        (["log", "canary.log", "--first", "9", "--last", "3"], "no step lies between them"),
        (["log", "canary.log", "--first", "44", "--json"], "there is no step 44"),
        (["explain", "canary.log", "--signature", "bug:x:y"], "--signature bug:x:y: there is no such finding in"),
        (["explain", "canary.log", "--signature", ""], "there is no such finding in"),
        (["explain", "canary.log", "--force"], "--force: it is about --out"),
        (["slabinfo", "canary.log", "--force"], "--force: it is about --out"),
        (["keep", "--check", ".", "--expect", "finding"], "leave out --expect"),
        (["keep", "--check", ".", "--name", "x"], "leave out --name"),
        (["match", TRACE, "--kernel", "5.3", "--ignore", "NOSUCH"], "--ignore NOSUCH: there is no such function"),
        (["match", TRACE, "--kernel", "5.3", "--ignore", "kill_css", "--ignore", "kill_css"], "it is given twice"),
        (["match", TRACE, "--kernel", "5.3", "--budget", "0"], "one or more"),
        (["match", TRACE, "--kernel", "5.3", "--force"], "--force: it is about --log"),
    ],
    ids=lambda value: " ".join(map(str, value))[-50:] if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("log")
def test_what_would_be_ignored_is_refused(slabrace: Command, arguments: list[str], named: str) -> None:
    Path("x.py").write_text(PATCH)

    assert named in check_usage_error(slabrace(*arguments))


def test_a_trace_of_too_many_cpus_is_no_mistake_of_an_option(slabrace: Command, tmp_path: Path) -> None:
    many = tmp_path / "many.txt"
    many.write_text(TRACE.read_text().replace("#P:2", "#P:96"))
    line = check_usage_error(slabrace("match", many, "--kernel", "5.3"))

    assert f"{many}: 96 CPUs" in line
    assert "--set cpus=96" not in line


def test_what_a_kept_file_says_is_no_option(slabrace: Command, log: Path) -> None:
    slabrace("keep", log, "--name", "lost")
    kept = Path("regressions/lost.json")
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "knobs": {"cpus": 0}}))

    assert f"slabrace: {kept}: knobs: cpus cannot be 0" in check_usage_error(slabrace("keep", "--check", "regressions"))


def test_a_log_that_ends_before_the_last_step_says_so(slabrace: Command, log: Path) -> None:
    answer = slabrace("log", log, "--last", 99, "--json")

    assert answer.code == 0
    assert answer.out == slabrace("log", log, "--json").out
    assert answer.err == f"slabrace: {log}: there is no step 99: the log ends with step 43\n"


# -- options do what they say -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_is_the_same_on_both_drivers(slabrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def drive(_self: Experiment, world: World, driver: str = "stepper") -> None:
        asked.append(driver)
        DRIVERS[driver](world)

    monkeypatch.setattr(Experiment, "drive", drive)
    answers: dict[str, list[object]] = {}
    for driver, strategy in itertools.product(DRIVERS, ("portfolio", "dpor")):
        asked.clear()
        command = ("explore", "rmdir-empty", "--kernel", "v7", "--strategy", strategy, "--budget", 12, "--no-log")
        answer = slabrace(*command, "--driver", driver, "--json")
        told = json.loads(answer.out)
        assert told.pop("driver") == driver
        assert asked.count(driver) > told["schedules"], "the search itself"
        del told["seconds"]
        answers.setdefault(strategy, []).append((answer.code, told))

    for one, other in answers.values():
        assert one == other


@pytest.mark.parametrize(
    ("more", "code", "outcome"),
    [
        (["--strategy", "dpor"], 0, "exhausted"),
        (["--strategy", "dpor", "--budget", "3"], EXIT_NOT_EXHAUSTED, "budget"),
        (["--budget", "3"], EXIT_NOT_EXHAUSTED, "budget"),
    ],
)
def test_whether_a_search_came_to_its_end_is_an_exit_code_if_that_is_required(
    slabrace: Command, more: list[str], code: int, outcome: str
) -> None:
    command = ("explore", "allocate-and-block", "--kernel", "v5", "--no-log", "--json", *more)
    required, plain = slabrace(*command, "--require-exhausted"), slabrace(*command)

    assert (required.code, json.loads(required.out)["outcome"]) == (code, outcome)
    assert plain.code == 0


def test_a_finding_is_a_finding_whatever_is_required(slabrace: Command) -> None:
    answer = slabrace("explore", *CANARY, "--budget", "3", "--require-exhausted", "--no-log")

    assert answer.code == 1


def test_a_search_by_time_has_no_other_end(slabrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.defaults.BUDGET", 3)
    command = ("explore", *CANARY, "--strategy", "random", "--no-log", "--json")
    by_default, by_time = (json.loads(slabrace(*command, *more).out) for more in ([], ["--time", "1"]))

    assert (by_default["stopped"], by_default["schedules"]) == ("budget", 3)
    assert by_time["stopped"] == "time"
    assert by_time["schedules"] > 3


def test_shrinking_ends_where_it_was_told_to() -> None:
    runs, end = limits(None, None)

    assert runs < math.inf
    assert end < math.inf
    assert limits(5, None) == (5, math.inf)
    assert limits(None, 5)[0] == math.inf


def test_list_shows_what_each_knob_may_be(slabrace: Command) -> None:
    text = slabrace("list", "scenarios").out
    scenarios = json.loads(slabrace("list", "scenarios", "--json").out)
    knobs = {knob["name"]: knob for knob in next(one for one in scenarios if one["name"] == "nested")["knobs"]}

    assert "depth=3: levels of cgroups (1 to 20)" in text
    assert "leaf first (racing|leaf-first)" in text
    assert (knobs["depth"]["least"], knobs["depth"]["most"], knobs["depth"]["choices"]) == (1, 20, None)
    assert (knobs["order"]["least"], knobs["order"]["choices"]) == (None, ["racing", "leaf-first"])
