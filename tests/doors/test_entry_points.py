"""Scenarios, oracles and strategies of installed projects, by the names of their entry points."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.entry_points import may_be_declared
from explorer.search import own
from tests.doors import files
from tests.doors.conftest import Command, what_ran
from tests.helpers import run_process

POINTS = """\
[slabrace.scenarios]
far-job = far_away.stages:job_is_late
canary = far_away.stages:job_is_late
fallen = far_away.fallen:scenario
torn = far_away.torn:scenario
plain = far_away.stages:fill
gone = far_away.stages:gone
[slabrace.oracles]
far-eyes = far_away.eyes:no_dying
leak = far_away.eyes:left_over
[slabrace.strategies]
far-walk = far_away.walks:Stubborn
"""

WRONG = {
    "fallen": "far-away 1.2, far_away.fallen:scenario, cannot be loaded: {root}/far_away/fallen.py, line 2: "
    "ZeroDivisionError: division by zero",
    "torn": "far-away 1.2, far_away.torn:scenario, cannot be loaded: {root}/far_away/torn.py, line 3: "
    "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    "plain": "far-away 1.2, far_away.stages:fill, is a function: declare it with @scenario",
    "gone": "far-away 1.2, far_away.stages:gone, cannot be loaded: AttributeError: module 'far_away.stages' has no "
    "attribute 'gone'",
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slabrace: Command) -> Iterator[Path]:
    """An installed project: its package, and the directory in which pip would put its metadata."""
    assert slabrace is not None
    root = tmp_path / "site"
    package, info = root / "far_away", root / "far_away-1.2.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    texts = {
        "stages": files.SCENARIO,
        "eyes": files.ORACLE,
        "walks": files.STRATEGY,
        "fallen": "print('here')\n1 / 0\n",
        "torn": "import json\n\njson.loads('')\n",
    }
    for name, text in {"__init__": "", **texts}.items():
        (package / f"{name}.py").write_text(text)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: far-away\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(root)
    own._installed.cache_clear()
    yield root
    own._installed.cache_clear()
    for name in [name for name in sys.modules if name.startswith("far_away")]:
        del sys.modules[name]


def listed(slabrace: Command, what: str) -> dict[str, dict[str, object]]:
    """The entries of `list` that do not belong to slabrace."""
    code, out, err = slabrace("list", what, "--json")
    assert code == 0, err
    return {entry["name"]: entry for entry in json.loads(out) if entry["project"] is not None}


def test_list_knows_what_is_installed(slabrace: Command) -> None:
    scenarios = listed(slabrace, "scenarios")

    assert scenarios["far-job"]["project"] == "far-away 1.2"
    assert scenarios["far-job"]["error"] is None
    assert next(knob["name"] for knob in scenarios["far-job"]["knobs"]) == "jobs"  # type: ignore[attr-defined]  # it is JSON
    assert set(listed(slabrace, "oracles")) == {"far-eyes", "leak"}
    assert listed(slabrace, "strategies")["far-walk"]["argument"] == "N"
    text = slabrace("list", "scenarios")[1]
    assert "far-job" in text
    assert "of far-away 1.2" in text
    assert "jobs=1: tasks (1 to 1000000)" in text


def test_list_says_in_a_line_what_cannot_be_used(slabrace: Command, project: Path) -> None:
    entries = listed(slabrace, "scenarios")
    code, out, err = slabrace("list", "scenarios")

    assert (code, err) == (0, "here\n"), "what a project prints is no answer of the command"
    for name, why in WRONG.items():
        told = f"the scenario of {why.format(root=project)}"
        assert entries[name]["error"] == told
        assert told in out
    assert str(entries["canary"]["error"]).startswith(
        "far-away 1.2 declares it, but the built-in scenario of that name has precedence"
    )


@pytest.mark.parametrize("name", WRONG)
def test_a_broken_entry_point_is_one_line_when_it_is_used(slabrace: Command, project: Path, name: str) -> None:
    code, out, err = slabrace("run", name, "--no-log")

    assert (code, out) == (2, "")
    assert err.removeprefix("here\n") == f"slabrace: {name}: the scenario of {WRONG[name].format(root=project)}\n"


def test_it_is_run_replayed_and_explored_by_its_name(slabrace: Command) -> None:
    code, out, err = slabrace("run", "far-job", "--oracle", "far-eyes", "--strategy", "far-walk:2", "--log", "x.log")

    assert code == 1, err
    assert "far-job on 5.3: strategy far-walk:2" in out
    assert "signature: oracle:far-eyes:" in out
    assert slabrace("replay", "x.log")[0] == 1
    code, out, err = slabrace("explain", "x.log", "--json")
    assert code == 1, err
    code, out, err = slabrace("keep", "x.log", "--expect", "finding", "--name", "far")
    assert (code, err) == (0, "")
    assert slabrace("keep", "--check", "regressions")[0] == 0


def test_workers_know_it(slabrace: Command) -> None:
    search = ("explore", "far-job", "--oracle", "far-eyes", "--strategy", "far-walk", "--budget", "20", "--no-log")
    answers = [json.loads(slabrace(*search, "--workers", workers, "--json")[1]) for workers in (1, 2)]
    for answer in answers:
        del answer["seconds"]

    assert answers[0] == answers[1]
    assert len(answers[0]["findings"]) == 1


def test_a_name_of_slabrace_is_never_looked_up(slabrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[str] = []

    def note(group: str) -> list[object]:
        groups.append(group)
        return []

    monkeypatch.setattr("explorer.references.read_entry_points", note)
    assert slabrace("run", "canary", "--no-log", "--strategy", "pct:3")[0] in (0, 1)
    assert groups == []
    assert what_ran() == set()


def test_two_projects_with_one_name_are_told(slabrace: Command, project: Path) -> None:
    other = project / "other-2.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2\n")
    (other / "entry_points.txt").write_text("[slabrace.scenarios]\nfar-job = far_away.stages:job_is_late\n")
    code, _, err = slabrace("run", "far-job", "--no-log")

    assert (code, err.count("\n")) == (2, 1)
    assert "both declare a scenario of that name; uninstall one of them" in err
    assert "far-away 1.2" in err
    assert "other 2" in err


def test_a_misspelt_name_is_told_the_installed_one(slabrace: Command) -> None:
    assert "do you mean 'far-job'?" in slabrace("run", "far-jop", "--no-log")[2]
    assert "do you mean 'far-walk'?" in slabrace("run", "canary", "--strategy", "far-walc", "--no-log")[2]


def test_the_pytest_fixture_knows_it(project: Path) -> None:
    test = project / "test_far.py"
    test.write_text(
        "def test_far(explore):\n    explore('far-job', budget=3)\n"
        "    explore('far-job', oracles=['far-eyes'], strategy='far-walk', budget=3, expect='oracle:far-eyes')\n"
    )
    answer = run_process(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test), cwd=project)

    assert (answer.returncode, answer.stderr) == (0, ""), answer.stdout


def test_entry_points_are_not_read_at_the_start_of_a_command(project: Path) -> None:
    code = "import sys, explorer.cli.usage; print('importlib.metadata' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project)  # noqa: S603 -- a command of the tests

    assert answer.stdout == "False\n"


DOUBTFUL = {
    "declared": b"[other]\na = b:c\n[slabrace.oracles]\nfar-eyes = far_away.eyes:no_dying\n",
    "not text": b"\xff\xfe\x00",
    "a line that importlib refuses": b"[other]\nno assignment\n",
}


@pytest.mark.parametrize("data", DOUBTFUL.values(), ids=DOUBTFUL)
@pytest.mark.parametrize("place", ["far-1.0.dist-info", "far.egg-info"])
def test_a_file_that_may_declare_an_entry_point_is_not_passed_over(project: Path, place: str, data: bytes) -> None:
    (project / "far_away-1.2.dist-info" / "entry_points.txt").write_text("# none\n\n[other]\na = b:c\n")
    assert not may_be_declared("slabrace.oracles")
    (project / place).mkdir()
    (project / place / "entry_points.txt").write_bytes(data)
    assert may_be_declared("slabrace.oracles")


def test_what_is_no_folder_is_not_passed_over(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "far_away-1.2.dist-info" / "entry_points.txt").unlink()
    (project / "far.egg-info").write_text("Name: far\n")
    monkeypatch.syspath_prepend(project / "nowhere")
    assert not may_be_declared("slabrace.oracles")
    (project / "archive.zip").write_bytes(b"")
    monkeypatch.syspath_prepend(project / "archive.zip")
    assert may_be_declared("slabrace.oracles")


def test_a_finder_of_another_project_is_not_passed_over(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "far_away-1.2.dist-info" / "entry_points.txt").unlink()
    finder = type("Finder", (), {"find_distributions": list, "find_spec": lambda *_: None})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, finder])
    assert may_be_declared("slabrace.oracles")


@pytest.mark.parametrize(
    ("what", "not_needed"),
    [
        ("strategies", {"actors.system.world", "importlib.metadata", "trio"}),
        ("oracles", {"actors.system.world", "importlib.metadata", "trio"}),
        ("kernels", {"scenarios.stage", "importlib.metadata", "trio"}),
        ("patches", {"scenarios.stage", "importlib.metadata", "trio"}),
        ("scenarios", {"importlib.metadata", "trio"}),
    ],
)
def test_list_imports_only_what_it_lists(tmp_path: Path, what: str, not_needed: set[str]) -> None:
    code = f"import sys; from explorer.cli import main; main(['list', '{what}']); print(*sys.modules, file=sys.stderr)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)  # noqa: S603 -- a command of the tests

    assert not_needed & set(answer.stderr.split()) == set()


def test_a_project_whose_entry_points_cannot_be_read_is_named(slabrace: Command, project: Path) -> None:
    info = project / "torn-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torn\nVersion: 1.0\n")
    (info / "entry_points.txt").write_bytes(b"\xff\xfe\x00")
    code, out, err = slabrace("list", "scenarios", "--json")

    assert code == 0
    assert "far-job" in {entry["name"] for entry in json.loads(out)}, "the others are there all the same"
    assert f"slabrace: {info}: its entry points cannot be read (UnicodeDecodeError); reinstall or remove it" in err


@pytest.mark.parametrize(
    "text",
    ["while True:\n    pass\n", "class E(Exception):\n    def __str__(self):\n        while True: ...\nraise E\n"],
)
def test_an_import_that_never_ends_is_a_line_of_the_list(
    slabrace: Command, project: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("explorer.watchdog.TICK", 0.02)
    (project / "far_away" / "fallen.py").write_text(text)
    said = str(listed(slabrace, "scenarios")["fallen"]["error"])

    assert said.startswith("the scenario of far-away 1.2, far_away.fallen:scenario, cannot be loaded: ")
    assert "fallen.py, line " in said
    assert said.endswith(("does it loop for ever?", ": E"))
