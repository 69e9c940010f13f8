"""Damaged and forged logs, made from valid ones."""

from __future__ import annotations

import hashlib
import itertools
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgpack
from hypothesis import assume
from hypothesis import strategies as st

from explorer.experiment import RunOptions
from explorer.session import run
from tests.fuzz.msgpacked import BROKEN, pack, scalars, values
from tests.helpers import TINY_CAPTURE

START, DIGEST_BYTES = 10, 16
"""Magic and version, and the length of the footer's digest: docs/log-format.md."""

MADE_BY: dict[str, dict[str, Any]] = {
    "canary": {"settings": {"rounds": "1"}, "seed": 1},
    "rmdir-empty": {"kernel": "v7"},
    "mkdir-fails": {"settings": {}},
}
"""Scenarios for the valid logs: a short log with a bug, three findings, and all kinds of records."""

Frames = list[bytes]


@attrs.frozen
class Good:
    """A valid log as slabrace writes it."""

    name: str
    data: bytes = attrs.field(repr=False)
    frames: tuple[bytes, ...] = attrs.field(repr=False)

    @property
    def digest(self) -> str:
        """The digest of its run."""
        return digest_of(self.frames)


@attrs.frozen
class Bad:
    """Bytes that are not a valid log, with the facts that decide what a reader must report.

    `is_shown`: a reader can see the error without a replay. `digest` is the digest of the records if the footer fits
    them, else empty. A replay that ends with this digest has executed the log's records, even if the header or the
    times were changed.
    """

    of: Good
    data: bytes
    how: str
    is_shown: bool = True
    digest: str = ""

    def __repr__(self) -> str:
        return f"<{self.of.name}, {self.how}, {len(self.data)} bytes, {'' if self.is_shown else 'not '}shown>"

    def _repr_pretty_(self, printer: Any, _cycle: Any) -> None:
        """The form in Hypothesis's reports; the file itself is still in the folder."""
        printer.text(repr(self))


def make_good(folder: Path, name: str) -> Good:
    """Run a scenario on the smallest machine."""
    (folder / "tiny").write_text(TINY_CAPTURE)
    with_capture = {**MADE_BY[name].get("settings", {}), "slabinfo": str(folder / "tiny")}
    options = RunOptions(scenario=name, driver="stepper", **{**MADE_BY[name], "settings": with_capture})
    path = folder / f"{name}.log"
    run(options, log=path)
    data = path.read_bytes()
    return Good(name, data, tuple(frames_of(data)))


def frames_of(data: bytes) -> Frames:
    """The payloads of a complete log."""
    at, found = START, []
    while at < len(data):
        size, head = data[at], 5
        if size == 255:
            (size,), head = struct.unpack_from("<I", data, at + 1), 9
        found.append(data[at + head : at + head + size])
        at += head + size
    return found


def frame(payload: bytes) -> bytes:
    """One record in the format of the file."""
    size = len(payload)
    length = struct.pack("<B", size) if size < 255 else struct.pack("<BI", 255, size)
    return length + struct.pack("<I", zlib.crc32(payload)) + payload


def join(good: Good, frames: Frames) -> bytes:
    """A log of these payloads."""
    return good.data[:START] + b"".join(map(frame, frames))


def is_step(payload: bytes) -> bool:
    """Whether the payload is a step, or looks like one."""
    return payload[:1] == b"\x96"


def digest_of(frames: Sequence[bytes]) -> str:
    """The digest in the footer."""
    return str(msgpack.unpackb(frames[-1])[1]["digest"])


def mended(frames: Frames) -> Frames:
    """The same frames with a footer that fits them."""
    *body, last = frames
    footer = msgpack.unpackb(last)
    digest = hashlib.blake2b(b"".join(body[1:]), digest_size=DIGEST_BYTES).hexdigest()
    footer[1].update(digest=digest, steps=sum(map(is_step, body)))
    return [*body, pack(footer)]


# -- bytes ------------------------------------------------------------------------------------------------------------


@st.composite
def with_bytes_changed(draw: st.DrawFn, good: Good) -> Bad:
    """Some bytes flipped, cut, inserted, or set to zero, so that the checksum over them is wrong."""
    data = good.data
    for _ in range(draw(st.integers(1, 3))):
        data = draw(st.sampled_from([_flip, _cut, _insert, _take_out, _zeros, _append]))(draw, good, data)
    assume(data != good.data)
    return Bad(good, data, "bytes")


def _place(draw: st.DrawFn, data: bytes) -> int:
    return draw(st.integers(0, max(len(data) - 1, 0)))


def _flip(draw: st.DrawFn, _good: Good, data: bytes) -> bytes:
    at = _place(draw, data)
    return data[:at] + bytes(byte ^ draw(st.integers(1, 255)) for byte in data[at : at + 1]) + data[at + 1 :]


def _cut(draw: st.DrawFn, _good: Good, data: bytes) -> bytes:
    return data[: _place(draw, data)]


def _insert(draw: st.DrawFn, _good: Good, data: bytes) -> bytes:
    at = _place(draw, data)
    return data[:at] + draw(st.binary(min_size=1, max_size=20)) + data[at:]


def _take_out(draw: st.DrawFn, _good: Good, data: bytes) -> bytes:
    at = _place(draw, data)
    return data[:at] + data[at + draw(st.integers(1, 300)) :]


def _zeros(draw: st.DrawFn, _good: Good, data: bytes) -> bytes:
    at, many = _place(draw, data), draw(st.sampled_from([1, 8, 500, 70_000]))
    return data[:at] + bytes(many) + data[at + draw(st.sampled_from([0, many])) :]


def _append(draw: st.DrawFn, good: Good, data: bytes) -> bytes:
    return data + draw(st.sampled_from([good.data, good.data[START:], b"garbage" * 100, b"\0", bytes(70_000), b"\n"]))


# -- frames -----------------------------------------------------------------------------------------------------------


@st.composite
def with_a_frame_changed(draw: st.DrawFn, good: Good) -> Bad:
    """One record with a wrong length or checksum, or with its length encoded in too many bytes."""
    frames = list(map(frame, good.frames))
    at = draw(st.integers(0, len(frames) - 1))
    payload = good.frames[at]
    size, crc = len(payload), struct.pack("<I", zlib.crc32(payload))
    other = draw(st.integers(0, 254) | st.sampled_from([size - 1, size + 1, 2**16, 2**31, 2**32 - 1, 10**6]))
    long, is_right = struct.pack("<BI", 255, other), draw(st.integers(0, 4)) == 0
    lengths = [long] if other > 254 else [long, struct.pack("<B", other)]
    if is_right:
        frames[at] = struct.pack("<BI", 255, size) + crc + payload
    else:
        frames[at] = draw(st.sampled_from(lengths)) + draw(st.sampled_from([crc, b"\0\0\0\0"])) + payload
    data = good.data[:START] + b"".join(frames)
    assume(data != good.data)
    return Bad(good, data, f"frame {at}", is_shown=not is_right, digest=good.digest * is_right)


# -- records ----------------------------------------------------------------------------------------------------------


Change = Callable[[st.DrawFn, Good, Frames], Frames]


@st.composite
def with_records_changed(draw: st.DrawFn, good: Good) -> Bad:
    """Records changed or moved; all their checksums are right, and the digest of the run may be."""
    frames, names = list(good.frames), []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        name, change = draw(st.sampled_from(CHANGES))
        names.append(name)
        *body, last = frames
        frames = [*change(draw, good, body), last]
    assume(tuple(frames) != good.frames)
    return _made(draw, good, frames, "+".join(names))


def _made(draw: st.DrawFn, good: Good, frames: Frames, how: str) -> Bad:
    """The log of these payloads, perhaps with a footer that fits them."""
    fitting = mended(frames)
    chosen = draw(st.sampled_from([frames, fitting]))
    fits = chosen == fitting
    how += ", with a footer that fits" * fits
    return Bad(good, join(good, chosen), how, is_shown=not fits, digest=digest_of(chosen) * fits)


def _record(draw: st.DrawFn, frames: Frames) -> int:
    return draw(st.integers(1, max(len(frames) - 1, 1)))


def _delete(draw: st.DrawFn, _good: Good, frames: Frames) -> Frames:
    at, many = _record(draw, frames), draw(st.sampled_from([1, 1, 2, 30]))
    return [*frames[:at], *frames[at + many :]]


def _double(draw: st.DrawFn, _good: Good, frames: Frames) -> Frames:
    at, to = _record(draw, frames), _record(draw, frames)
    return [*frames[:to], *frames[at : at + 1], *frames[to:]]


def _swap(draw: st.DrawFn, _good: Good, frames: Frames) -> Frames:
    one, other = _record(draw, frames), _record(draw, frames)
    changed = list(frames)
    if max(one, other) < len(frames):
        changed[one], changed[other] = frames[other], frames[one]
    return changed


def _replace(draw: st.DrawFn, _good: Good, frames: Frames) -> Frames:
    at = _record(draw, frames)
    return [*frames[:at], pack(draw(records)), *frames[at + draw(st.integers(0, 1)) :]]


def _edit(draw: st.DrawFn, _good: Good, frames: Frames) -> Frames:
    """One record with a field changed, added, or removed."""
    at = _record(draw, frames)
    try:
        record = msgpack.unpackb(frames[at])
        assert isinstance(record, list)
    except (IndexError, ValueError, AssertionError, msgpack.UnpackException):
        return frames  # an earlier edit has broken this record
    return [*frames[:at], pack(draw(edited(record))), *frames[at + 1 :]]


CHANGES: tuple[tuple[str, Change], ...] = (
    ("edit", _edit),
    ("edit", _edit),  # listed more than once: the most productive change
    ("replace", _replace),
    ("delete", _delete),
    ("double", _double),
    ("swap", _swap),
)


@st.composite
def edited(draw: st.DrawFn, record: list[Any]) -> Any:
    """The record with one field changed."""
    record = list(record)
    at = draw(st.integers(0, len(record)))
    if at == len(record):
        return [*record, draw(values)] if draw(st.booleans()) else record[:-1]
    if isinstance(record[at], dict) and record[at] and draw(st.integers(0, 9)):
        record[at] = draw(edited_fields(record[at]))
    elif type(record[at]) is int and draw(st.booleans()):
        record[at] += draw(st.sampled_from([-1, 1]))
    elif draw(st.integers(0, 5)) == 0:
        del record[at]
    else:
        record[at] = draw(values)
    return record


@st.composite
def edited_fields(draw: st.DrawFn, fields: dict[str, Any]) -> dict[Any, Any]:
    """The fields with one of them changed."""
    name = draw(st.sampled_from(sorted(fields)))
    changed: dict[Any, Any] = dict(fields)
    match draw(st.integers(0, 6)):
        case 0:
            del changed[name]
        case 1:
            changed[draw(st.sampled_from(["unknown", "self", 1, None, "\x1b[2J"]))] = draw(values)
        case _:
            inner = fields[name]
            has_more = isinstance(inner, dict) and inner and draw(st.booleans())
            changed[name] = draw(edited_fields(inner)) if has_more else draw(values)
    return changed


@st.composite
def with_likely_values(draw: st.DrawFn, good: Good) -> Bad:
    """Some fields with other values of their kind, and a footer that fits: the log of a different run."""
    frames = list(good.frames)
    for _ in range(draw(st.sampled_from([1, 1, 2, 5]))):
        at = draw(st.integers(1, len(frames) - 2))
        record = msgpack.unpackb(frames[at])
        fields = record[1] if isinstance(record[-1], dict) else record
        name = draw(st.sampled_from(sorted(fields) if isinstance(fields, dict) else range(len(fields))))
        fields[name] = draw(st.sampled_from(LIKELY[type(fields[name])]))
        frames[at] = pack(record)
    assume(tuple(frames) != good.frames)
    fitting = mended(frames)
    return Bad(good, join(good, fitting), "likely values", is_shown=False, digest=digest_of(fitting))


LIKELY: dict[type, Sequence[Any]] = {
    int: (0, 1, 2, 3, 5, 8, 100, 1_000_000),
    str: ("stage", "read", "update", "race", "T", "A", "bug", "livelock", "canary_check", "count0"),
    list: ([], [0], [0, 1], ["canary_check"]),
    type(None): (0, 1),
}
"""Possible values for a field of each type."""

small = st.integers(0, 30)
texts = st.sampled_from(["x", "", "\x1b[2J", "canary_count"])
findings = st.fixed_dictionaries(
    {"kind": scalars, "name": scalars, "message": scalars, "step": scalars, "time": scalars},
    optional={"function": scalars, "flow": scalars, "cpu": scalars, "stack": values, "details": values, "x": values},
)
tags = st.sampled_from(["lane", "set", "fn", "op", "owner", "value", "moved", "phase", "finding"])
records = st.one_of(
    st.lists(small, min_size=5, max_size=7),
    st.tuples(st.just("lane"), small, texts, st.sampled_from(["task", "A", "?"]), st.none() | small),
    st.tuples(st.just("set"), small, st.lists(small, max_size=5)),
    st.tuples(st.sampled_from(["fn", "owner"]), small, texts),
    st.tuples(st.just("op"), small, texts, st.sampled_from(["read", "update", "?"])),
    st.tuples(st.just("value"), small, small),
    st.tuples(st.just("moved"), small, st.none() | small),
    st.tuples(st.just("phase"), st.sampled_from(["set-up", "race", "x"])),
    st.tuples(st.just("finding"), findings),
    st.tuples(st.sampled_from(["header", "footer"]), st.just({}) | values),
    st.lists(values, max_size=7),
    st.tuples(
        st.sampled_from(["lane", "set", "fn", "op", "owner", "value", "moved", "phase", "finding"]), values, values
    ),
    values,
    st.sampled_from(BROKEN),
)
"""Records of every kind, with valid and invalid fields."""


# -- header and footer ------------------------------------------------------------------------------------------------


@st.composite
def with_another_header(draw: st.DrawFn, good: Good) -> Bad:
    """A header with one field changed, or a completely different header."""
    header = msgpack.unpackb(good.frames[0])
    changed = draw(edited(header) if draw(st.integers(0, 9)) else records)
    data = join(good, [pack(changed), *good.frames[1:]])
    assume(data != good.data)
    return Bad(good, data, "header", is_shown=False, digest=good.digest)


@st.composite
def with_another_footer(draw: st.DrawFn, good: Good) -> Bad:
    """A footer that does not fit the records; an interruption in the last step is possible, so it is not used."""
    footer = msgpack.unpackb(good.frames[-1])
    outcome = draw(st.sampled_from(["ok", "finding", "diverged", "OK", ""]))
    change = {"outcome": outcome, "steps": draw(st.integers(-1, 400)), "digest": draw(st.sampled_from(["", "0" * 32]))}
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(change)))
        footer[1][name] = change[name]
    else:
        footer = draw(edited(footer))
    data = join(good, [*good.frames[:-1], pack(footer)])
    assume(data != good.data)
    return Bad(good, data, "footer")


@st.composite
def spliced(draw: st.DrawFn, good: Good, other: Good) -> Bad:
    """The beginning of one log and the end of another."""
    head, tail = draw(st.integers(1, len(good.frames) - 1)), draw(st.integers(1, len(other.frames) - 1))
    frames = [*good.frames[:head], *other.frames[tail:]]
    return _made(draw, good, frames, f"spliced with {other.name}")


def bad_logs(goods: tuple[Good, ...]) -> st.SearchStrategy[Bad]:
    """Logs with any of these errors."""
    one = st.sampled_from(goods)
    return st.one_of(
        one.flatmap(with_bytes_changed),
        one.flatmap(with_a_frame_changed),
        one.flatmap(with_records_changed),
        one.flatmap(with_records_changed),
        one.flatmap(with_likely_values),
        one.flatmap(with_another_header),
        one.flatmap(with_another_footer),
        st.sampled_from(list(itertools.permutations(goods, 2))).flatmap(lambda two: spliced(*two)),
    )
