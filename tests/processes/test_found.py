"""The log of a finding is on the disk when a search reports the finding."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from explorer.search.campaign import Found
from explorer.search.report import CampaignProgress
from explorer.session import replay
from tests.conftest import Command
from tests.helpers import start_process
from tests.processes.attacks import FOUND

SEARCH = ("explore", "late-allocation", "--kernel", "v7", "--budget", "16")


def test_each_log_is_whole_when_the_finding_is_reported(slabrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, str] = {}

    def tell(_self: CampaignProgress, found: Found) -> None:
        assert found.log is not None
        result = replay(Path(found.log), driver="stepper")

        assert result.damage is None
        assert found.finding.signature in {finding.signature for finding in result.findings}
        shown[found.finding.signature] = found.log

    monkeypatch.setattr(CampaignProgress, "tell", tell)
    monkeypatch.setattr("explorer.cli.explore.group_by_cause", lambda _campaign: None)  # it takes many runs
    told = json.loads(slabrace(*SEARCH, "--json").out)

    assert len(shown) > 1
    assert {finding["signature"]: finding["log"] for finding in told["findings"]} == shown


def test_a_search_that_is_killed_has_said_and_left_what_it_found(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from explorer.search.report import CampaignProgress\n"
        "from explorer.cli import main\n"
        "tell = CampaignProgress.tell\n"
        "def tell_and_die(self, found):\n"
        "    tell(self, found)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "CampaignProgress.tell = tell_and_die\n"
        "main(sys.argv[1:])\n"
    )
    with start_process(sys.executable, "-c", script, *SEARCH, cwd=tmp_path) as process:
        _, said = process.communicate(timeout=60)
    (log,) = FOUND.findall(said)

    assert process.returncode == -signal.SIGKILL
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.log")] == [log]
    assert replay(tmp_path / log, driver="stepper").findings


def test_each_log_replays_though_its_run_ends_with_what_it_shows(slabrace: Command) -> None:
    """The findings of this search are not fatal, so the runs could go on."""
    told = json.loads(slabrace("explore", "offline-vs-destroy", "--kernel", "5.3", "--budget", 20, "--json").out)
    logs = [finding["log"] for finding in told["findings"]]

    assert logs
    for log in logs:
        assert slabrace("replay", log).code == 1, log


def test_a_search_that_cannot_log_gives_its_answer_all_the_same(slabrace: Command) -> None:
    Path("runs").write_text("a file, where the folder should be", encoding="utf-8")
    answer = slabrace("explore", "canary", "--first", "--json")
    told = json.loads(answer.out)

    assert answer.code == 1
    assert told["outcome"] == "finding"
    assert {finding["log"] for finding in told["findings"]} == {None}
    assert answer.err.splitlines()[0].startswith("slabrace: runs/canary")
    assert os.listdir() == ["runs"]  # noqa: PTH208 -- only the names matter
