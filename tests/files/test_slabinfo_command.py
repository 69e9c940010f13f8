"""`slabrace slabinfo LOG`: any file at any step, to standard output, as JSON, or into a file that must not exist."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from actors.files.crash_reader import look
from actors.files.kernel_files import FILES
from explorer.experiment import RunOptions
from explorer.session import run
from protocol.formats.kpagecgroup import unpack_kpagecgroup
from protocol.formats.slabinfo import parse_slabinfo
from protocol.formats.slabinfo_full import parse_slabinfo_full
from tests.conftest import Answer, Command
from tests.files.helpers import SMALL, has_knob, play

SCENARIO = "readers-vs-rmdir"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of a complete run."""
    return record(tmp_path / "run.log")


def record(path: Path, scenario: str = SCENARIO, kernel: str = "5.3", **settings: str) -> Path:
    small = {name: value for name, value in SMALL.items() if has_knob(scenario, name)}
    run(RunOptions(scenario=scenario, kernel=kernel, driver="stepper", settings=small | settings), log=path)
    return path


def check_usage_error(answer: Answer) -> str:
    """Exit code 2, nothing on standard output, one line on standard error; return it."""
    assert answer.code == 2, answer.err
    assert answer.raw == b""
    assert answer.err.startswith("slabrace: ")
    assert answer.err.count("\n") == 1, answer.err
    assert "internal error" not in answer.err
    return answer.err.strip()


# -- output -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 250, 251, 252, 700])
def test_the_file_at_a_step_is_what_the_crash_reader_sees(slabrace: Command, log: Path, step: int) -> None:
    machine = play(SCENARIO, until=max(step, 1)).stage.machine  # the first step only takes a lock
    answer = slabrace("slabinfo", log, "--at", step)

    assert answer.code == 0, answer.err
    assert answer.raw == look(machine, "slabinfo")
    assert slabrace("slabinfo", log, "--at", step, "--file", "cgroups").raw == look(machine, "cgroups")


def test_without_a_step_it_is_the_end_of_the_log(slabrace: Command, log: Path) -> None:
    machine = play(SCENARIO).stage.machine

    assert slabrace("slabinfo", log).raw == look(machine, "slabinfo")
    assert slabrace("slabinfo", log, "--full").raw == slabrace("slabinfo", log, "--file", "slabinfo_full").raw
    assert len(parse_slabinfo_full(slabrace("slabinfo", log, "--full").out, source="x")) == len(machine.all_caches)


@pytest.mark.parametrize("name", [file.name for file in FILES])
def test_every_file_can_be_shown_written_and_told_as_json(slabrace: Command, tmp_path: Path, name: str) -> None:
    cgroup = "v1" if name.startswith("memory.kmem") else "v2"
    log = record(tmp_path / "run.log", "rmdir-under-load", cgroup=cgroup)
    wanted = f"load1/{name}" if name in ("memory.stat", "memory.current", "memory.kmem.slabinfo") else name
    step = 300 if wanted != name else 500  # load1 is removed later, and there are slabs
    arguments = ("slabinfo", log, "--at", step, "--file", wanted)
    shown, told = slabrace(*arguments), slabrace(*arguments, "--json")
    written = slabrace(*arguments, "--out", "copy", "--json")

    assert (shown.code, told.code, written.code) == (0, 0, 0), (shown.err, told.err, written.err)
    assert (tmp_path / "copy").read_bytes() == shown.raw != b""
    facts = json.loads(told.out)
    assert facts == json.loads(written.out) | {"out": None}
    assert (facts["file"], facts["step"], facts["bytes"]) == (name, step, len(shown.raw))
    assert (facts["outcome"], facts["scenario"], facts["kernel"]) == ("ok", "rmdir-under-load", "5.3")
    assert facts["rows"]
    assert all(isinstance(row, dict) for row in facts["rows"])


def test_the_json_of_slabinfo_has_the_columns(slabrace: Command, log: Path) -> None:
    facts = json.loads(slabrace("slabinfo", log, "--at", 700, "--json").out)
    rows = parse_slabinfo(slabrace("slabinfo", log, "--at", 700).out, source="x")

    assert facts["path"] == "/proc/slabinfo"
    assert [row["num_objs"] for row in facts["rows"]] == [row.num_objs for row in rows]


def test_the_json_of_kpagecgroup_names_the_cgroups(slabrace: Command, tmp_path: Path) -> None:
    log = record(tmp_path / "run.log", "rmdir-under-load", cgroups="2")
    arguments = ("slabinfo", log, "--at", 400, "--file", "kpagecgroup")
    inodes = unpack_kpagecgroup(slabrace(*arguments).raw, source="x")
    rows = json.loads(slabrace(*arguments, "--json").out)["rows"]

    assert {row["pfn"]: row["inode"] for row in rows} == {pfn: ino for pfn, ino in enumerate(inodes) if ino}
    assert {row["cgroup"] for row in rows} <= {"/", "/load0", "/load1", "/session"}


def test_a_log_with_a_finding_is_shown_all_the_same(slabrace: Command, tmp_path: Path) -> None:
    """The exit code is 0: it reports on the command, not on the run."""
    log = record(tmp_path / "run.log", "shared-dentry", "v1")
    answer = slabrace("slabinfo", log)

    assert answer.code == 0, answer.err
    assert parse_slabinfo(answer.out, source="x")


# -- usage errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--file", "nix"], "nix: there is no such file; there are slabinfo, slabinfo_full, memcg_slabinfo, "),
        (["--file", ""], "there is no such file"),
        (["--file", "job9/cgroup.stat"], "v2"),
        (["--file", "job9/memory.kmem.slabinfo"], "job9/memory.kmem.slabinfo: there is no such cgroup now"),
        (["--at", "1000000"], "there is no step 1000000: the log ends after step"),
        (["--at", "x"], "x"),
        (["--at", "-1"], "--at"),
        (["--full", "--file", "slabinfo"], "--file"),
        (["--out", "."], "."),
        (["--out", "run.log/copy"], "run.log/copy"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    slabrace: Command, log: Path, tmp_path: Path, arguments: list[str], named: str
) -> None:
    assert named in check_usage_error(slabrace("slabinfo", log, *arguments))
    assert list(tmp_path.iterdir()) == [log], "nothing is written"


def test_an_existing_file_is_replaced_only_if_told_to(slabrace: Command, log: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_text("precious")

    assert "--force" in check_usage_error(slabrace("slabinfo", log, "--out", copy))
    assert copy.read_text() == "precious"
    assert slabrace("slabinfo", log, "--out", copy, "--force").code == 0
    assert copy.read_bytes() == slabrace("slabinfo", log).raw


def test_a_full_disk_is_told_as_such(slabrace: Command, log: Path) -> None:
    """The write fails with ENOSPC, not the open."""
    assert "No space left" in check_usage_error(slabrace("slabinfo", log, "--out", "/dev/full"))


def test_bytes_are_not_printed_to_a_terminal(slabrace: Command, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _self: True, raising=False)
    line = check_usage_error(slabrace("slabinfo", log, "--file", "kpagecgroup"))

    assert "--out FILE" in line
    assert slabrace("slabinfo", log, "--file", "kpagecgroup", "--out", "copy").code == 0


@pytest.mark.parametrize("content", [b"", b"slabinfo - version: 2.1\n", bytes(100)])
def test_what_is_no_log_is_refused(slabrace: Command, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)

    assert "x: " in check_usage_error(slabrace("slabinfo", tmp_path / "x"))
    assert "missing" in check_usage_error(slabrace("slabinfo", tmp_path / "missing"))


# -- incomplete logs --------------------------------------------------------------------------------------------------


def test_a_killed_run_is_shown_up_to_where_it_got(slabrace: Command, log: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.log"
    torn.write_bytes(log.read_bytes()[:-4000])
    answer = slabrace("slabinfo", torn)

    assert answer.code == 0
    assert parse_slabinfo(answer.out, source="x")
    assert answer.err.count("\n") == 1
    assert "torn" in answer.err or "no end" in answer.err


def test_a_flipped_bit_is_told_and_what_comes_before_it_can_be_seen(
    slabrace: Command, log: Path, tmp_path: Path
) -> None:
    data = bytearray(log.read_bytes())
    data[-4000] ^= 1
    broken = tmp_path / "broken.log"
    broken.write_bytes(data)

    assert slabrace("slabinfo", broken, "--at", 100).raw == slabrace("slabinfo", log, "--at", 100).raw
    answer = slabrace("slabinfo", broken)
    assert answer.code == 2
    assert "byte" in answer.err


def test_a_log_of_another_kernel_model_diverges_and_nothing_is_shown(
    slabrace: Command, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["scenarios.readers_vs_rmdir"], "OBJECTS", 3)
    answer = slabrace("slabinfo", log)

    assert answer.code == 4
    assert answer.raw == b""
    assert "diverged at step" in answer.err
    told = slabrace("slabinfo", log, "--json")
    assert told.code == 4
    assert json.loads(told.out)["divergence"]["step"] > 0
