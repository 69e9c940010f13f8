"""docs/stress-store.md names every table and column; docs/nightly.yml is a workflow whose commands work."""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from explorer.stress.queries import QUESTIONS
from tests.stress.stores import campaign, rows
from tests.tidy.sources import ROOT

__all__ = ["campaign"]

STORE_PAGE = (ROOT / "docs" / "stress-store.md").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load((ROOT / "docs" / "nightly.yml").read_text(encoding="utf-8"))
(JOB,) = WORKFLOW["jobs"].values()
STEPS: list[dict[str, Any]] = JOB["steps"]
TINY = "canary destroy-typesafe --kernel 5.4-fixed --set rounds=1 --budget 10 --workers 1"


def columns_of(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


# -- the store --------------------------------------------------------------------------------------------------------


def test_the_page_has_every_table_with_its_columns(campaign: Path) -> None:
    _, *parts = re.split(r"^### `(\w+)`$", STORE_PAGE, flags=re.MULTILINE)
    told = {table: columns_of(text) for table, text in zip(parts[::2], parts[1::2], strict=True)}
    tables = [
        row["name"]
        for row in rows(campaign, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    ]

    assert told == {
        table: [row["name"] for row in rows(campaign, "SELECT name FROM pragma_table_info(?)", table)]
        for table in tables
    }


def test_the_page_has_every_question_with_its_line() -> None:
    section = STORE_PAGE.partition("## Common questions")[2].partition("\n## ")[0]

    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)) == {
        name: question.summary for name, question in QUESTIONS.items()
    } | {"schema": f"{QUESTIONS['schema'].summary}, with comments"}


def test_the_questions_of_ones_own_have_answers(campaign: Path) -> None:
    commands = [shlex.split(line) for line in STORE_PAGE.splitlines() if line.startswith("sqlite3 ")]

    assert len(commands) == 3
    for *words, query in commands:
        assert words == ["sqlite3", "-readonly", "-box", "DIR/store.sqlite"]
        assert rows(campaign, query)


def test_the_page_has_the_number_of_the_application(campaign: Path) -> None:
    with closing(sqlite3.connect(f"file:{campaign / 'store.sqlite'}?mode=ro", uri=True)) as database:
        (number,) = database.execute("PRAGMA application_id").fetchone()

    assert f"0x{number:08X}" in STORE_PAGE


# -- the workflow -----------------------------------------------------------------------------------------------------


def test_every_step_is_an_action_or_a_command() -> None:
    assert {True, "name", "env", "jobs", "permissions", "concurrency"} == set(WORKFLOW)  # YAML 1.1 reads `on` as true
    for step in STEPS:
        assert ("uses" in step) != ("run" in step)
        assert "@v" in step.get("uses", "@v")
    assert WORKFLOW["permissions"] == {"contents": "read"}


def test_only_the_campaign_can_make_the_run_red_and_the_rest_runs_nevertheless() -> None:
    (place,) = [place for place, step in enumerate(STEPS) if "slabrace stress" in step.get("run", "")]

    assert "if" not in STEPS[place]
    assert not any("continue-on-error" in step for step in STEPS)
    assert [step["if"] for step in STEPS[place + 1 :]] == ["${{ !cancelled() }}"] * len(STEPS[place + 1 :])


def run_step(name: str, folder: Path, options: str) -> subprocess.CompletedProcess[str]:
    """Run the command of a step as the workflow would, with other options for the campaign."""
    (step,) = [step for step in STEPS if step.get("name") == name]
    environment = {
        **os.environ,
        **{key: str(value) for key, value in WORKFLOW["env"].items()},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OPTIONS": options,
        "GITHUB_STEP_SUMMARY": str(folder / "step-summary"),
    }
    return subprocess.run(  # noqa: S603 -- a command of the repository
        ["/bin/bash", "-e", "-c", step["run"]], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize(("more", "code"), [("", 0), (" --without b749ecfaf6c5 --seed 1", 1)], ids=["known", "new"])
def test_the_commands_of_the_workflow(tmp_path: Path, more: str, code: int) -> None:
    """Known causes, of the canary, do not make it red. The second night goes on in the store of the first."""
    for night in (1, 2):
        options = f"{TINY}{more}".replace("10", str(20 * night))
        answer = run_step("Run the campaign", tmp_path, options)
        assert answer.returncode == code, answer.stderr
        assert f"campaign 1 {'begins' if night == 1 else 'goes on'}" in answer.stderr
        answer = run_step("Report", tmp_path, options)
        assert answer.returncode == 0, answer.stderr

    summary = (tmp_path / "step-summary").read_text(encoding="utf-8")
    assert summary.count("### slabrace stress: ") == 2
    assert ("no new cause" in summary) == (code == 0)
    assert "canary" in (tmp_path / "report.xml").read_text(encoding="utf-8")
    for step in STEPS:
        path = step.get("with", {}).get("path", "")
        for name in path.replace("${{ env.STORE }}", WORKFLOW["env"]["STORE"]).split():
            assert (tmp_path / name).exists(), name


def test_the_install_step_makes_the_command_known() -> None:
    (step,) = [step for step in STEPS if step.get("name") == "Install"]

    assert step["run"].splitlines() == ["make venv", 'echo "$PWD/.venv/bin" >> "$GITHUB_PATH"']
    assert re.search(r"^venv: ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
