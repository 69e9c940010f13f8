"""The text, the JSON object, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explorer.cli import main
from explorer.explain import Explanation, to_text
from explorer.explain.as_json import to_json
from explorer.explain.rows import GapRow, StepRow, rows_of


def test_the_report_says_everything_once(explanation: Explanation) -> None:
    text = to_text(explanation)

    for part in (
        "BUG: use-after-free in box",
        "freed by box_free() in freer, step",
        f"signature: {explanation.finding.signature}",
        "of 8 steps of the race matter",
        f"freer's write in box_free() before user's read in box_use(): {explanation.finding.signature}",
        "user's read in box_use() before freer's write in box_free(): nothing found",
        "10/10 (5 on trio, 5 on stepper)",
        "the run with the pair swapped is the same up to step",
    ):
        assert text.count(part) == 1, part
    assert "ran ahead of bystander" in text


def test_every_step_is_told_or_counted(explanation: Explanation) -> None:
    rows = rows_of(explanation)
    told = sum(isinstance(row, StepRow) for row in rows)
    counted = sum(row.steps for row in rows if isinstance(row, GapRow))

    assert told == len(explanation.important)
    assert told + counted == len(explanation.trace.steps)


def test_json_has_what_the_text_has(explanation: Explanation) -> None:
    answer = json.loads(json.dumps(to_json(explanation)))

    assert answer["outcome"] == "finding"
    assert answer["signature"] == explanation.finding.signature
    assert answer["reproduced"] == {"runs": 10, "shown": 10, "by_driver": {"trio": 5, "stepper": 5}}
    assert answer["conflict"]["first"]["flow"] == "freer"
    assert answer["conflict"]["second_before_first"] == []
    assert answer["first_difference"]["there"]["flow"] == "user"
    assert [row["row"] for row in answer["rows"]].count("step") == answer["steps_that_matter"]


def test_the_text_is_the_same_each_time(explanation: Explanation) -> None:
    assert to_text(explanation) == to_text(explanation)


# -- the command ------------------------------------------------------------------------------------------------------


def test_explain_prints_the_report_and_says_that_there_is_a_finding(
    canary_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["explain", str(canary_log)])

    assert code == 1
    out = capsys.readouterr().out
    assert "canary: an update was lost" in out
    assert "10/10" in out
    assert f"slabrace keep {canary_log}" in out


def test_explain_json_is_one_object(canary_log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(canary_log), "--json"]) == 1

    answer = json.loads(capsys.readouterr().out)
    assert answer["log"] == str(canary_log)
    assert answer["conflict"]["thing"] == "the canary's counter"


@pytest.mark.parametrize("form", ["text", "mermaid", "perfetto", "html"])
def test_explain_writes_each_form_once(
    form: str, canary_log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"

    assert main(["explain", str(canary_log), "--format", form, "--out", str(out)]) == 1
    assert out.read_text(encoding="utf-8")
    assert not capsys.readouterr().out
    assert main(["explain", str(canary_log), "--format", form, "--out", str(out)]) == 2
    told = "a file with this name exists; choose another, or --force to replace it"
    assert capsys.readouterr().err == f"slabrace: {out}: {told}\n"


def test_a_finding_that_the_log_does_not_have_is_a_usage_error(
    canary_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(canary_log), "--signature", "warn:x:y"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_out_in_a_place_that_cannot_be_written_is_a_usage_error(
    canary_log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(canary_log), "--out", "/proc/nothing/out.txt"]) == 2
    assert capsys.readouterr().err.startswith("slabrace: /proc/nothing/out.txt: cannot write it")
