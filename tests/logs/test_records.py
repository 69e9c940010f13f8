"""Records that slabrace cannot have written, with correct checksums: reading ends there with one line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from explorer.cli import main
from protocol.log import LogReader, frame
from tests.helpers import Payload, Record, pack, read_payloads, start_of_log, write_payloads

Change = Callable[[list[Record]], object]


@pytest.fixture(scope="module")
def payloads(tmp_path_factory: pytest.TempPathFactory) -> list[Payload]:
    """A log with records of every kind: a fault, a finding, a flow that moves."""
    path = tmp_path_factory.mktemp("logs") / "x.log"
    main(["run", "rmdir-empty", "--kernel", "v7", "--fault", "page=0.1", "--driver", "stepper", "--log", str(path)])
    return read_payloads(path)


def first(payloads: list[Payload], tag: str, number: int = 0) -> int:
    """The index of record *number* with this tag (`step` for steps) in a log."""
    tags = [str(msgpack.unpackb(payload)[0]) for payload in payloads]
    places = [n for n, word in enumerate(tags) if (word.isdigit() if tag == "step" else word == tag)]
    return places[number]


def read(path: Path) -> LogReader:
    """A log, read up to its end or its damage."""
    log = LogReader(path)
    try:
        for _ in log.records():
            pass
    finally:
        log.close()
    return log


def put(place: int, value: object) -> Callable[[Record], None]:
    """A function that replaces one field of a record."""
    return lambda record: record.__setitem__(place, value)


WRONG_FIELDS = {
    "a choice below zero": ("step", put(2, -1), "`int` >= 0"),
    "a choice that there was not": ("step", put(2, 99), "the step's choice is 99, and"),
    "a choice that is no number": ("step", put(2, float("nan")), "got `float`"),
    "a set that is not defined": ("step", put(1, 9_999), "set 9999 is used before it is defined"),
    "a function that is not defined": ("step", put(3, 9_999), "function 9999 is used before it is defined"),
    "an operation that is not defined": ("step", put(4, 9_999), "operation 9999 is used before it is defined"),
    "an owner that is not defined": ("step", put(5, 9_999), "owner 9999 is used before it is defined"),
    "a time that is none": ("step", put(0, True), "got `bool`"),
    "a number too large": ("step", put(0, 2**63), "<= 9223372036854775807"),
    "a step without an owner": ("step", lambda record: record.pop(), "`str`, got `int`"),
    "a lane of a kind that is none": ("lane", put(3, "XX"), "Invalid enum value 'XX'"),
    "a number that is a list": ("owner", put(1, []), "got `array`"),
    "a number that is known": ("fn", put(1, 5), "function 5 is defined where function 0 should be"),
    "a set with a lane twice": ("set", lambda record: record[2].append(record[2][0]), "or one of them twice"),
    "an empty set": ("set", put(2, []), "has no lanes"),
    "a finding of a kind that is none": ("finding", lambda record: record[1].update(kind="bad"), "no such oracle"),
    "a set of lanes that are not there": ("set", put(2, [77]), "lane 77 is used before it is defined"),
    "no tag": ("op", lambda record: record.pop(0), "`str`, got `int`"),
    "a tag that is none": ("op", put(0, "oops"), "Invalid value 'oops'"),
    "a value above its count": ("value", put(2, 2), "the value chosen is 2 of 2"),
    "a field too many": ("phase", lambda record: record.append(1), "at most length"),
    "a finding of another step": ("finding", lambda record: record[1].update(step=3), "claims step 3, but follows"),
    "a finding with other fields": ("finding", lambda record: record[1].update(colour=1), "unknown field `colour`"),
    "a footer of other steps": ("footer", lambda record: record[1].update(steps=7), "it says steps 7, they come to"),
    "a footer of another outcome": ("footer", lambda record: record[1].update(outcome="ok"), "they come to finding"),
    "a footer of another digest": ("footer", lambda record: record[1].update(digest="00"), "it says digest 00"),
    "an empty footer": ("footer", lambda record: record.pop(), "at least length 2"),
}


@pytest.mark.parametrize("name", WRONG_FIELDS)
def test_a_record_with_a_wrong_field_ends_the_reading_at_its_byte(
    payloads: list[Payload], tmp_path: Path, name: str
) -> None:
    tag, change, why = WRONG_FIELDS[name]
    place = first(payloads, tag)
    record: Any = msgpack.unpackb(payloads[place])
    change(record)
    changed = [*payloads[:place], pack(record), *payloads[place + 1 :]]
    log = read(write_payloads(tmp_path / "x.log", changed))
    byte = len(start_of_log()) + sum(len(frame(payload)) for payload in payloads[:place])

    assert log.is_damaged
    assert log.damage is not None
    assert log.damage.startswith(f"{tmp_path}/x.log: byte {byte}: "), log.damage
    assert why in log.damage


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc0",
        b"\xc1",
        b"\x90",
        b"\xc6\x7f\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 3000 + b"\xc0",
        b"\x92\xa5phase\xa1x\x01",
    ],
    ids=[
        "nil",
        "the reserved byte",
        "nothing in it",
        "2 GiB",
        "4 Gi fields",
        "3,000 arrays in one another",
        "two values",
    ],
)
def test_a_payload_that_is_no_record_ends_the_reading(
    payloads: list[Payload], tmp_path: Path, payload: Payload
) -> None:
    log = read(write_payloads(tmp_path / "x.log", [*payloads[:50], payload, *payloads[51:]]))

    assert log.is_damaged
    assert "this is no record of a log: " in str(log.damage)


def test_a_function_has_one_number(payloads: list[Payload], tmp_path: Path) -> None:
    place, other = first(payloads, "fn"), first(payloads, "fn", 1)
    name = msgpack.unpackb(payloads[place])[2]
    log = read(write_payloads(tmp_path / "x.log", [*payloads[:other], pack(["fn", 1, name]), *payloads[other + 1 :]]))

    assert f"function {name} is defined a second time" in str(log.damage)


def test_no_step_comes_after_a_finding_that_ends_the_run(payloads: list[Payload], tmp_path: Path) -> None:
    step = payloads[first(payloads, "step", -1)]
    log = read(write_payloads(tmp_path / "x.log", [*payloads[:-1], step, payloads[-1]]))

    assert "a step comes after the finding that ended the run" in str(log.damage)


WRONG_HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "a knob that there is not": ({"parameters": {"colour": 3}}, "no knob 'colour'"),
    "a seed below zero": ({"seed": -5}, "the seed is -5"),
    "a finding that there is not": ({"shows": "bug:x:y"}, "the header says that the run shows bug:x:y"),
    "a probability that is none": ({"faults": {"page": float("nan")}}, "Expected `float`"),
}


@pytest.mark.parametrize("name", WRONG_HEADERS)
def test_a_header_that_is_not_that_of_the_run_is_refused(
    payloads: list[Payload], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, why = WRONG_HEADERS[name]
    header = msgpack.unpackb(payloads[0])[1]
    changes = {field: {**header[field], **new} if isinstance(new, dict) else new for field, new in changes.items()}
    path = write_payloads(tmp_path / "x.log", [pack(["header", {**header, **changes}]), *payloads[1:]])
    capsys.readouterr()

    assert main(["replay", str(path)]) == 2
    err = capsys.readouterr().err
    assert (err.count("\n"), why in err) == (1, True), err


def test_there_is_one_header(payloads: list[Payload], tmp_path: Path) -> None:
    log = read(write_payloads(tmp_path / "x.log", [payloads[0], *payloads]))

    assert "a second header" in str(log.damage)


@pytest.mark.parametrize("behind", [b"\0", b"garbage" * 100, b"slabrace"], ids=["a zero", "rubbish", "another log"])
def test_nothing_may_stand_behind_the_footer(payloads: list[Payload], tmp_path: Path, behind: bytes) -> None:
    path = write_payloads(tmp_path / "x.log", payloads)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(behind)
    log = read(path)

    assert log.is_damaged
    assert log.damage == f"{path}: byte {size}: {len(behind)} bytes stand behind the end of the log; cut them off"


@pytest.mark.parametrize("zeros", [1, 60_000, 70_000, 3_000_000])
def test_a_hole_is_damage_however_long_it_is(payloads: list[Payload], tmp_path: Path, zeros: int) -> None:
    """The complete records behind the hole show that the file was not cut off there."""
    path = write_payloads(tmp_path / "x.log", payloads)
    whole = path.read_bytes()
    middle = len(whole) - 5_000
    path.write_bytes(whole[:middle] + bytes(zeros) + whole[middle:])

    assert read(path).is_damaged


# -- commands ---------------------------------------------------------------------------------------------------------

READERS = ("replay", "log", "slabinfo", "shrink", "explain", "keep", "explore")


@pytest.mark.parametrize("command", READERS)
def test_every_command_says_in_one_line_where_a_log_is_damaged(
    payloads: list[Payload], tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = first(payloads, "fn", -1)
    path = write_payloads(tmp_path / "x.log", [*payloads[:place], b"\xc0", *payloads[place + 1 :]])
    words = ["explore", "--from", str(path), "--at", "60", "--no-log"] if command == "explore" else [command, str(path)]

    assert main(words) == 2
    err = capsys.readouterr().err
    assert (err.count("\n"), err.startswith(f"slabrace: {path}: byte ")) == (1, True), err


# -- pipes ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def piped(path: Path) -> Iterator[Path]:
    """A pipe that delivers the file once."""
    pipe = path.with_name("pipe")
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    yield pipe
    writer.join()


@pytest.mark.parametrize("command", ["replay", "log", "slabinfo"])
def test_a_log_may_come_through_a_pipe(
    payloads: list[Payload], tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_payloads(tmp_path / "x.log", payloads)
    capsys.readouterr()
    code = main([command, str(path)])
    told = capsys.readouterr()
    with piped(path) as pipe:
        assert main([command, str(pipe)]) == code
    out, err = capsys.readouterr()

    assert same_time(re.sub(r"/proc/\d+/fd/\d+", str(path), out)) == same_time(told.out)
    assert err == told.err


def same_time(text: str) -> str:
    """The output of a command without the elapsed time."""
    return re.sub(r" in \d+\.\d+ s;", " in no time;", text)


def test_what_is_made_of_a_log_in_a_pipe_needs_a_name(
    payloads: list[Payload], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with piped(write_payloads(tmp_path / "x.log", payloads)) as pipe:
        assert main(["shrink", str(pipe)]) == 2
    assert "give --out FILE" in capsys.readouterr().err


def test_a_directory_may_be_called_fd(payloads: list[Payload], tmp_path: Path) -> None:
    path = tmp_path / "fd" / "x.log"
    path.parent.mkdir()
    write_payloads(path, payloads)

    assert main(["shrink", str(path), "--budget", "3"]) == 1
    assert path.with_name("x.short.log").exists()


def test_of_an_endless_pipe_only_the_beginning_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "/dev/zero"]) == 2
    assert "this is not a slabrace log" in capsys.readouterr().err


def test_a_log_that_begins_with_another_record_diverges_before_its_first_step(
    payloads: list[Payload], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lane, *_ = (payload for payload in payloads if msgpack.unpackb(payload)[0] == "lane")
    path = write_payloads(tmp_path / "x.log", [payloads[0], lane])
    capsys.readouterr()

    assert main(["replay", str(path), "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["divergence"]["step"] == 0
