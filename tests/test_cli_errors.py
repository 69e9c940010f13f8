"""Usage errors: one line on standard error with the cause and the remedy, exit code 2, and no file written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.fixes import ALL_FIXES
from protocol.log import VERSION
from protocol.records import Header, PatchRecord
from scenarios import SCENARIOS, find_scenario
from scenarios.registry import Scenario
from tests.conftest import Command, check_usage_error
from tests.helpers import TINY_CAPTURE, pack, run_small, small_settings, start_of_log, write_payloads

# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["fly"], "fly"),
        (["--fly"], "--fly: there is no such option"),
        (["run"], "SCENARIO"),
        (["run", "nothing"], "nothing"),
        (["run", "canary", "--kernel", "6.0"], "6.0"),
        (["run", "canary", "--strategy", "best"], "best"),
        (["run", "canary", "--driver", "car"], "car"),
        (["run", "canary", "--check", "twice"], "twice"),
        (["run", "canary", "--seed", "x"], "x"),
        (["run", "canary", "--seed", "-1"], "--seed"),
        (["run", "canary", "--seed", "1.5"], "1.5"),
        (["run", "canary", "--seed", "²"], "²"),
        (["run", "canary", "--seed", str(2**64)], "seed"),
        (["run", "canary", "--seed", "9" * 5000], "seed"),
        (["run", "canary", "--set", "rounds"], "rounds"),
        (["run", "canary", "--set", "=3"], "NAME=VALUE"),
        (["run", "canary", "--set", "colour=red"], "rounds"),
        (["run", "canary", "--set", "rounds=0"], "from 1 to"),
        (["run", "canary", "--set", "rounds=-1"], "from 1 to"),
        (["run", "canary", "--set", "rounds=many"], "from 1 to"),
        (["run", "canary", "--set", "rounds="], "from 1 to"),
        (["run", "canary", "--set", "rounds=²"], "from 1 to"),
        (["run", "canary", "--set", "rounds=" + "9" * 5000], "from 1 to"),
        (["run", "canary", "--set", "cpus=65"], "from 1 to 64"),
        (["run", "nested", "--set", "order=upwards"], "racing"),
        (["run", "nested", "--set", "allocator=slob"], "slub, slab"),
        (["run", "canary", "--strategy", "random:3"], "random:3"),
        (["run", "canary", "--strategy", "pct:0"], "from 1 to"),
        (["run", "canary", "--strategy", "pct:many"], "from 1 to"),
        (["run", "canary", "--patch", "nothing"], "nothing"),
        (["run", "canary", "--patch", "missing.py"], "missing.py"),
        (["run", "canary", "--patch", "."], "."),
        (["run", "canary", "--without", "nothing"], "nothing"),
        (["run", "canary", "--kernel", "v7", "--without", "exit-during-atomic-switch"], "does not have that fix"),
        (["run", "canary", "--kernel", "5.4-fixed", "--patch", "a264df74df38"], "has that fix already"),
        (["run", "canary", "--fault", "page"], "NAME=VALUE"),
        (["run", "canary", "--fault", "page=often"], "page=often"),
        (["run", "canary", "--fault", "page=1.5"], "page=1.5"),
        (["run", "canary", "--fault", "page=nan"], "page=nan"),
        (["run", "canary", "--fault", "rain=0.5"], "rain"),
        (["run", "canary", "--log", "x.log", "--no-log"], "--no-log"),
        (["run", "canary", "--log", "."], "."),
        (["run", "canary", "--log", ".", "--force"], "."),
        (["run", "canary", "--fly"], "--fly"),
        (["run", "no\nsuch"], "such"),
        (["run", "canary", "--kernel", "5\n3"], "kernel"),
        (["replay"], "LOG"),
        (["replay", "missing.log"], "missing.log"),
        (["replay", "."], "."),
        (["replay", "missing.log", "--until", "x"], "x"),
        (["replay", "missing.log", "--driver", "car"], "car"),
        (["log", "missing.log"], "missing.log"),
        (["log", "missing.log", "--first", "x"], "x"),
        (["list", "birds"], "birds"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_a_wrong_argument_is_refused_in_one_line_that_names_it(
    slabrace: Command, tmp_path: Path, arguments: list[str], named: str
) -> None:
    assert named in check_usage_error(slabrace(*arguments))
    assert list(tmp_path.iterdir()) == [], "nothing is written"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_number_of_every_scenario_has_bounds_that_are_told(slabrace: Command, scenario: Any) -> None:
    for knob in scenario.knobs:
        if knob.is_slabinfo or knob.choices:
            continue
        for value in (knob.least - 1, knob.most + 1):
            line = check_usage_error(slabrace("run", scenario.name, "--set", f"{knob.name}={value}"))

            assert f"--set {knob.name}={value}" in line
            assert str(knob.least) in line
            assert str(knob.most) in line
        ends = [str(knob.least), str(knob.most)] if knob.is_list else [knob.least, knob.most]
        assert [knob.parse(str(value)) for value in (knob.least, knob.most)] == ends


def test_an_unknown_name_is_answered_with_the_command_that_lists_the_names(slabrace: Command) -> None:
    line = check_usage_error(slabrace("run", "nothing"))

    assert line == "slabrace: nothing: there is no such scenario; see slabrace list scenarios"


@pytest.mark.parametrize("place", ["file/x.log", "file/deep/x.log"])
def test_a_log_below_a_file_is_refused(slabrace: Command, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("precious")
    line = check_usage_error(slabrace("run", "canary", "--log", place))

    assert place in line
    assert (tmp_path / "file").read_text() == "precious"


def test_a_full_disk_is_told_as_such_and_is_no_bug_of_ours(slabrace: Command) -> None:
    assert Path("/dev/full").exists(), "Linux has it"
    line = check_usage_error(slabrace("run", "canary", "--log", "/dev/full", "--force", "--json"))

    assert "/dev/full" in line
    assert "No space left" in line
    assert Path("/dev/full").is_char_device(), "only a file is removed with the log that came to nothing"


PATCH = """
from actors.api import kernel_fn, unpatched
from actors.linux.mm.memcontrol import memcg_offline_kmem

@kernel_fn("memcg_offline_kmem", "mm/memcontrol.c")
async def offline(ctx, memcg):
    raise LookupError("what I did not think of")
"""


@pytest.mark.parametrize("is_link", [False, True])
def test_a_run_that_a_patch_of_the_user_makes_fail_leaves_no_log(
    slabrace: Command, tmp_path: Path, *, is_link: bool
) -> None:
    """If the log's path is a link, its target is not removed."""
    (tmp_path / "idea.py").write_text(PATCH)
    log = tmp_path / "x.log"
    if is_link:
        (tmp_path / "target").write_text("")
        log.symlink_to(tmp_path / "target")
    line = check_usage_error(slabrace("run", "nested", "--patch", "idea.py", "--log", log, "--force", "--json"))

    assert "idea.py, line 7" in line
    assert "what I did not think of" in line
    assert log.exists() == is_link


# -- --set slabinfo=FILE ----------------------------------------------------------------------------------------------

GOOD = TINY_CAPTURE.encode()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        pytest.param(b"", 1, id="empty"),
        pytest.param(b"MemTotal: 16 kB\nMemFree: 8 kB\n", 1, id="foreign: another file of proc"),
        pytest.param(b'{"slabinfo": [1, 2]}\n', 1, id="foreign: JSON"),
        pytest.param(GOOD.replace(b"2.1", b"1.1"), 1, id="another version"),
        pytest.param(GOOD[:-40], 5, id="truncated in a row"),
        pytest.param(GOOD[: GOOD.index(b"\n") + 1], 1, id="truncated after the first line"),
        pytest.param(GOOD.replace(b"192", b"abc"), 4, id="broken: a word for a number"),
        pytest.param(GOOD.replace(b"tunables", b"tunable", 2), 3, id="broken: another word"),
        pytest.param(GOOD + b"dentry 1 1 64 64 1 : tunables 0 0 0 : slabdata 1 1 0\n", 6, id="broken: a row twice"),
        pytest.param(b"\x7fELF" + bytes(range(128, 256)), 1, id="binary: a program"),
        pytest.param(GOOD + bytes(50), 6, id="binary: zeros at the end"),
        pytest.param(GOOD.replace(b"dentry", b"d\xffntry"), 4, id="binary: a byte that is no text"),
        pytest.param(GOOD.decode().encode("utf-16"), 1, id="binary: another encoding"),
    ],
)
def test_a_capture_that_is_none_is_refused_with_file_and_line(
    slabrace: Command, tmp_path: Path, content: bytes, line: int
) -> None:
    path = tmp_path / "capture.txt"
    path.write_bytes(content)
    message = check_usage_error(slabrace("run", "canary", "--set", f"slabinfo={path}"))

    assert message.startswith(f"slabrace: {path}, line {line}: ")
    assert message.isprintable()
    assert sorted(tmp_path.iterdir()) == [path], "nothing is written"


@pytest.mark.parametrize("name", [".", "missing"])
def test_a_capture_that_cannot_be_read_is_refused_with_the_reason(slabrace: Command, name: str) -> None:
    assert f"{name}: cannot read it" in check_usage_error(slabrace("run", "canary", "--set", f"slabinfo={name}"))


WIDE_CAPTURE = f"""\
{TINY_CAPTURE}\
ext4_inode_cache  0 0 1128 14 4 : tunables 0 0 0 : slabdata 0 0 0
inode_cache       0 0  632 12 2 : tunables 0 0 0 : slabdata 0 0 0
sighand_cache     0 0 2112 15 8 : tunables 0 0 0 : slabdata 0 0 0
task_struct       0 0 5888  5 8 : tunables 0 0 0 : slabdata 0 0 0
"""
"""All caches that any scenario takes from a capture."""

TRACED = {"dentry", "filp", "inode_cache", "shmem_inode_cache"}

NEEDS = {
    "nested": {"task_struct"},
    "rmdir-under-load": {"sighand_cache", "task_struct"},
    "shared-dentry": {"dentry", "filp", "shmem_inode_cache"},
    "stranded-vmstat": {"dentry"},
    "traced-create": TRACED,
    "traced-rmdir-held": TRACED,
    "traced-rmdir-idle": TRACED,
}
"""The caches that each scenario takes from a capture; scenarios that are not listed take none."""


def without_row(capture: str, cache: str) -> str:
    return re.sub(rf"^{cache} .*\n", "", capture, flags=re.MULTILINE)


@pytest.mark.parametrize(("scenario", "cache"), [(name, cache) for name in NEEDS for cache in sorted(NEEDS[name])])
def test_a_capture_that_lacks_a_cache_is_refused_by_its_name_before_anything_is_written(
    slabrace: Command, tmp_path: Path, scenario: str, cache: str
) -> None:
    path = tmp_path / "capture.txt"
    path.write_text(without_row(WIDE_CAPTURE, cache))
    message = check_usage_error(slabrace("run", scenario, "--set", f"slabinfo={path}"))

    assert f"there is no row {cache!r}" in message
    assert sorted(tmp_path.iterdir()) == [path], "nothing is written"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_capture_needs_no_more_than_what_the_scenario_uses(
    slabrace: Command, tmp_path: Path, scenario: Scenario
) -> None:
    text = WIDE_CAPTURE
    for cache in set(re.findall(r"^(\w+) .* : slabdata", text, re.MULTILINE)) - NEEDS.get(scenario.name, {"filp"}):
        text = without_row(text, cache)
    (tmp_path / "capture.txt").write_text(text)
    knobs = [f"--set={name}={value}" for name, value in small_settings(scenario.name).items()]

    assert slabrace("run", scenario.name, "--no-log", "--set=slabinfo=capture.txt", *knobs).code in (0, 1)


def test_a_capture_with_all_that_is_needed_is_accepted(slabrace: Command, tmp_path: Path) -> None:
    path = tmp_path / "capture.txt"
    path.write_text(TINY_CAPTURE)

    assert slabrace("run", "canary", "--set", f"slabinfo={path}").code in (0, 1)


# -- logs -------------------------------------------------------------------------------------------------------------

CANARY = find_scenario("canary")
FIX = next(fix.slug for fix in ALL_FIXES if "5.3" in fix.built_into)


def header(**changes: object) -> Header:
    """A valid header with these changes."""
    parameters = CANARY.values({"rounds": "3"})
    fields: dict[str, Any] = {
        "scenario": "canary",
        "kernel": "5.3",
        "strategy": "random",
        "seed": 0,
        "driver": "stepper",
        "parameters": parameters,
        "slabrace": "0.1.0",
    }
    return Header(**{**fields, **changes})


def without(name: str) -> dict[str, Any]:
    return {knob: value for knob, value in header().parameters.items() if knob != name}


def with_knob(name: str, value: object) -> dict[str, Any]:
    return {**header().parameters, name: value}


def nested_on(capture: str) -> dict[str, Any]:
    return {**find_scenario("nested").values({}), "slabinfo": capture}


def test_the_header_that_the_next_test_changes_fits(slabrace: Command, tmp_path: Path) -> None:
    write_payloads(tmp_path / "x.log", [pack(["header", msgspec.to_builtins(header())])])

    assert slabrace("replay", "x.log").code == 0


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"scenario": "nothing"}, id="a scenario that is not there"),
        pytest.param({"kernel": "6.0"}, id="a kernel that is not there"),
        pytest.param({"check": "twice"}, id="a check that is not there"),
        pytest.param({"parameters": without("rounds")}, id="a knob is missing"),
        pytest.param({"parameters": without("slabinfo")}, id="the machine is missing"),
        pytest.param({"parameters": with_knob("rounds", "many")}, id="a knob is no number"),
        pytest.param({"parameters": with_knob("rounds", None)}, id="a knob is nothing"),
        pytest.param({"parameters": with_knob("rounds", 0)}, id="a knob is out of bounds"),
        pytest.param({"parameters": with_knob("cpus", 0)}, id="no CPUs"),
        pytest.param({"parameters": with_knob("cpus", 65)}, id="too many CPUs"),
        pytest.param({"parameters": with_knob("slabinfo", "hello")}, id="the machine is no capture"),
        pytest.param({"parameters": with_knob("slabinfo", 5)}, id="the machine is a number"),
        pytest.param({"scenario": "nested", "parameters": nested_on(TINY_CAPTURE)}, id="a cache is missing"),
        pytest.param({"patches": (PatchRecord("my_idea"),)}, id="a patch that is not there"),
        pytest.param({"patches": (PatchRecord("a", "gone.py", "0" * 64),)}, id="a patch file that is not there"),
        pytest.param({"patches": (PatchRecord(FIX),)}, id="a patch that is in the kernel already"),
        pytest.param({"without": ("my_idea",)}, id="taken out: a fix that is not there"),
        pytest.param({"faults": {"rain": 0.5}}, id="a fault that is not there"),
    ],
)
def test_a_log_whose_header_does_not_fit_is_refused_in_one_line(
    slabrace: Command, tmp_path: Path, changes: dict[str, Any]
) -> None:
    write_payloads(tmp_path / "x.log", [pack(["header", msgspec.to_builtins(header(**changes))])])
    answer = slabrace("replay", "x.log")

    assert "x.log" in check_usage_error(answer)


@pytest.mark.parametrize("command", ["replay", "log"])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"slab", id="cut in the magic"),
        pytest.param(b"\x7fELF\x02\x01\x01" + bytes(300), id="a program"),
        pytest.param(b"hello, world\n", id="a text"),
        pytest.param(start_of_log(), id="nothing but the version"),
        pytest.param(start_of_log(VERSION + 1) + bytes(20), id="a later version"),
        pytest.param(start_of_log(0) + bytes(20), id="version 0"),
        pytest.param(start_of_log() + b"\xfe" + bytes(20), id="cut in the header"),
        pytest.param(start_of_log() + bytes(20), id="zeros"),
        pytest.param(start_of_log() + b"\x01\x00\x00\x00\x00\x05", id="a checksum that does not fit"),
    ],
)
def test_a_file_that_is_no_log_is_refused_in_one_line(
    slabrace: Command, tmp_path: Path, command: str, content: bytes
) -> None:
    (tmp_path / "x.log").write_bytes(content)

    assert "x.log" in check_usage_error(slabrace(command, "x.log"))
    assert (tmp_path / "x.log").read_bytes() == content


def flip(data: bytes) -> bytes:
    """Flip one bit in the middle."""
    place = 2 * len(data) // 3
    return data[:place] + bytes([data[place] ^ 8]) + data[place + 1 :]


@pytest.mark.parametrize("command", ["replay", "log"])
@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        pytest.param(flip, 2, "damaged", id="a flipped bit"),
        pytest.param(lambda data: data[: 2 * len(data) // 3], 0, "torn", id="torn"),
        pytest.param(lambda data: data[: 2 * len(data) // 3] + bytes(4096), None, "byte", id="zeros behind a tear"),
    ],
)
def test_a_damaged_log_is_used_up_to_the_damage_with_one_line_about_it(
    slabrace: Command,
    tmp_path: Path,
    command: str,
    *,
    damage: Callable[[bytes], bytes],
    code: int | None,
    words: str,
) -> None:
    """A log that was cut off by a kill is valid; a damaged log differs from the written bytes, and exits with 2."""
    path = tmp_path / "x.log"
    run_small("nested", log=path)
    path.write_bytes(damage(path.read_bytes()))
    answer = slabrace(command, "x.log", "--json")

    assert answer.out != ""
    assert code is None or answer.code == code
    assert answer.code in (0, 2)
    assert answer.err.startswith("slabrace: x.log: ")
    assert answer.err.count("\n") == 1
    assert words in answer.err
