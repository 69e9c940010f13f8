"""Regression files: their contents, their usage errors, and the protection of existing files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from explorer.cli import main
from explorer.experiment import Experiment, Given, RunOptions
from explorer.keep import FORMAT, Again, make_kept, read_kept, run_again, to_text_file
from explorer.schedule import Follow
from explorer.trace import run_traced
from protocol.errors import UsageError
from protocol.log import LogReader
from protocol.records import FindingRecord

LOST = "bug:canary: an update was lost"


def edit(path: Path, **fields: Any) -> None:
    """Change fields of a regression file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_file_says_what_was_run_and_only_that(kept: Path) -> None:
    fields = json.loads(kept.read_text())

    assert fields["format"] == FORMAT
    assert fields["scenario"] == "canary"
    assert fields["kernel"] == "5.3"
    assert fields["knobs"] == {"rounds": 1}
    assert fields["expects"] == "nothing"
    assert fields["signature"].startswith(LOST)
    assert set(fields["schedule"]) >= {"count0", "count1"}


def test_a_file_is_read_as_it_was_written(kept: Path) -> None:
    assert to_text_file(read_kept(kept)) == kept.read_text()


def again_as_kept(path: Path, *, trust: bool = False) -> Again:
    """The result of a kept finding that is run again."""
    kept = read_kept(path)
    return run_again(path, kept, kept.experiment(path, Given(trust=trust)))


def test_a_kept_finding_is_shown_again(kept: Path) -> None:
    again = again_as_kept(kept)

    assert again.shows_it
    assert not again.is_as_expected
    assert again.stale is None


def test_the_name_is_made_of_the_finding(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keep", str(log), "--json"]) == 0

    answer = json.loads(capsys.readouterr().out)
    assert Path(answer["file"]).name.startswith("canary-5.3-bug-canary-an-update-was-lost")
    assert Path(answer["file"]).is_file()
    assert Path(answer["test"]).name == "test_kept.py"


def test_nothing_is_overwritten_unasked(log: Path, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(kept, expects="finding")
    before = kept.read_text()

    assert main(["keep", str(log), "--name", "lost"]) == 2
    assert (
        capsys.readouterr().err
        == f"slabrace: {kept}: a file with this name exists; choose another, or --force to replace it\n"
    )
    assert kept.read_text() == before
    assert main(["keep", str(log), "--name", "lost", "--force"]) == 0
    assert kept.read_text() != before
    assert sorted(path.name for path in kept.parent.iterdir()) == ["lost.json", "test_kept.py"]


def test_the_test_is_written_once(log: Path, kept: Path) -> None:
    test = kept.parent / "test_kept.py"
    test.write_text("# mine\n")

    assert main(["keep", str(log), "--name", "other"]) == 0
    assert test.read_text() == "# mine\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["keep"],
        ["keep", "canary.log", "--check", "regressions"],
        ["keep", "canary.log", "--name", "../up"],
        ["keep", "canary.log", "--signature", "warn:x:y"],
        ["keep", "nothing.log"],
        ["keep", "--check", "nowhere"],
        ["explore", "canary", "--kept", "nowhere"],
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    arguments: list[str], kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(kept.parent.iterdir())

    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(kept.parent.iterdir()) == files


@pytest.mark.parametrize(
    "fields",
    [
        {"format": FORMAT + 1},
        {"scenario": 3},
        {"expects": "rain"},
        {"schedule": [None]},
        {"schedule": 3},
        {"more": 1},
        {"scenario": "nothing-like-it"},
        {"kernel": "2.4"},
        {"knobs": {"wheels": 4}},
        {"knobs": {"rounds": 0}},
        {"faults": {"lightning": 0.5}},
        {"patches": [{"name": "no-such-fix"}]},
    ],
)
def test_a_file_that_does_not_fit_is_a_usage_error(
    fields: dict[str, Any], kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(kept, **fields)

    assert main(["keep", "--check", "regressions"]) == 2
    assert capsys.readouterr().err.startswith(f"slabrace: {kept}: ")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\x00"])
def test_a_file_that_is_none_is_a_usage_error(text: str, kept: Path) -> None:
    kept.write_text(text)

    with pytest.raises(UsageError, match=r"^regressions/lost\.json: this is not a finding that was kept"):
        read_kept(kept)


CAPTURE = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>
filp              0      0    256   16    1 : tunables    0    0    0 : slabdata      0      0      0
dentry            0      0    192   21    1 : tunables    0    0    0 : slabdata      0      0      0
"""


def test_a_text_knob_is_kept_whole(tmp_path: Path) -> None:
    """The value of a capture is the text of the file, not its path."""
    capture = tmp_path / "capture.txt"
    capture.write_text(CAPTURE)
    options = RunOptions(scenario="canary", settings={"rounds": "1", "slabinfo": str(capture)})
    experiment = Experiment.of(options)
    trace = run_traced(experiment, Follow(("count0", "count1", "count0", "count1", "count0", "count1")))
    finding = next(iter(trace.stage.world.findings.values()))
    kept = make_kept(experiment, attrs.evolve(trace, found=finding), tmp_path, controls_clock=False, expects="nothing")
    path = tmp_path / "kept.json"
    path.write_text(to_text_file(kept))
    capture.unlink()

    again = again_as_kept(path)

    assert again.experiment.header.parameters["slabinfo"] == CAPTURE
    assert again.shows_it


PATCH = """\
from actors.machine.context import WARN_ON
from actors.api import kernel_fn, unpatched

@kernel_fn("do_exit", "kernel/exit.c")
async def do_exit(ctx):
    WARN_ON(ctx, ctx.name == "count1", "planted")
    await unpatched(ctx, do_exit)
"""


def test_a_patch_file_is_named_from_where_the_regression_file_is(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patch, planted = Path("patches/idea.py"), log.with_name("planted.log")
    patch.parent.mkdir()
    patch.write_text(PATCH)
    run = ["run", "canary", "--set", "rounds=1", "--seed", "1", "--patch", str(patch), "--log", str(planted)]
    assert main(run) == 1
    keep = ["keep", str(planted), "--name", "planted", "--signature", signature_with(planted, "planted")]
    assert main([*keep, "--patch", str(patch)]) == 0
    path = Path("regressions/planted.json")

    (kept_patch,) = json.loads(path.read_text())["patches"]

    assert kept_patch["path"] == "../patches/idea.py"
    assert again_as_kept(path, trust=True).shows_it
    assert not again_as_kept(path, trust=True).changed_files
    patch.write_text(PATCH.replace('"count1"', '"nobody"'))
    again = again_as_kept(path, trust=True)
    assert not again.shows_it
    assert again.changed_files == ["../patches/idea.py"]
    capsys.readouterr()


def signature_with(path: Path, word: str) -> str:
    """The signature in the log that contains *word*."""
    log = LogReader(path)
    try:
        findings = [record.finding for _, record in log.records() if isinstance(record, FindingRecord)]
    finally:
        log.close()
    return next(finding.signature for finding in findings if word in finding.signature)
