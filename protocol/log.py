"""The log: one file a run, framed msgpack records that survive a crash and betray damage.

    file    = magic version frame*
    magic   = b"slabrace"                      version = u16, little-endian
    frame   = length crc payload               length = u8 below 255, or 255 and u32; crc = CRC-32 of payload, u32
    payload = msgpack array

A payload that starts with an integer is a step: [dt, set, index, function, operation, owner] (see `Step`). All
others start with their tag: definitions of the small numbers that steps use ("lane", "set", "fn", "op",
"owner"), values chosen ("value"), migrations ("moved"), findings, and the header and footer. Every number is
defined before its first use, so any prefix can be read. docs/log-format.md is the reference.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import attrs
import msgpack
from attrs.validators import deep_iterable, deep_mapping, instance_of

from protocol.atomic import CannotWriteError, NewFile
from protocol.errors import DamagedLogError, UsageError

MAGIC = b"slabrace"
VERSION = 2
"""Format 2: a section holds from its flow's next step on (ADR 11), so the choices of format 1 lead elsewhere."""

READ_BY = {1: "0.1"}
"""Which version of slabrace reads the formats that this one refuses."""

FLUSH_BYTES = 1 << 16

_TEXT = instance_of(str)
_LONG = 255
_WINDOW = 1 << 16  # how far behind a torn record others are looked for
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_HEAD = struct.Struct("<BI")
_LONG_HEAD = struct.Struct("<BII")


@attrs.frozen
class PatchRecord:
    """A patch as the log remembers it: a named fix, or a file by its path and the SHA-256 of its text."""

    name: str = attrs.field(validator=_TEXT)
    path: str = attrs.field(default="", validator=_TEXT)
    sha256: str = attrs.field(default="", validator=_TEXT)


@attrs.frozen
class Header:
    """What a replay needs to set up the same run, and what a reader wants to know first.

    `parameters` are the scenario's knobs by name, with the content (not the path) of files. `patches` are the named
    fixes and files that were laid over the kernel, `without` the fixes taken out; a file has a path and a hash.
    `faults` are probabilities by name. `shows` is the signature of the finding that the log was written for, if it was.
    """

    scenario: str = attrs.field(validator=_TEXT)
    kernel: str = attrs.field(validator=_TEXT)
    strategy: str = attrs.field(validator=_TEXT)
    seed: int = attrs.field(validator=instance_of(int))
    driver: str = attrs.field(validator=_TEXT)
    parameters: dict[str, Any] = attrs.field(validator=instance_of(dict))
    slabrace: str = attrs.field(validator=_TEXT)
    check: str = attrs.field(default="step", validator=_TEXT)
    patches: tuple[PatchRecord, ...] = ()
    without: tuple[str, ...] = attrs.field(default=(), validator=deep_iterable(_TEXT))
    faults: dict[str, float] = attrs.field(factory=dict, validator=deep_mapping(_TEXT, instance_of((int, float))))
    shows: str = attrs.field(default="", validator=_TEXT)


@attrs.frozen
class Step:
    """One step as recorded: `index` is the choice within enabled set number `enabled_set`; `dt` is ns since the last.

    `function`, `operation` and `owner` are numbers of definitions; owner 0 is none.
    """

    dt: int
    enabled_set: int
    index: int
    function: int
    operation: int
    owner: int


@attrs.frozen
class Footer:
    """How the run ended, and the digest of all its records between header and footer."""

    outcome: str
    steps: int
    digest: str


def frame(payload: bytes) -> bytes:
    """Return *payload* with its length and checksum in front."""
    size = len(payload)
    if size < _LONG:
        return _HEAD.pack(size, zlib.crc32(payload)) + payload
    return _LONG_HEAD.pack(_LONG, size, zlib.crc32(payload)) + payload


class LogWriter:
    """Writes one log file; refuses to write over an existing one unless told to (`overwrite`).

    A new file has its name from its header on: a run that is killed leaves what it has flushed. One that replaces
    another takes its place when it is closed, and until then the old one is there. At the end of a with block the file
    is closed, or discarded if the user is at fault; after any other exception what has its name already keeps it.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Begin the file; raises UsageError in one line if that cannot be done."""
        self._file = NewFile(path, overwrite=overwrite)
        self._buffer = bytearray(MAGIC + _U16.pack(VERSION))
        self._is_open = True

    def header(self, header: Header) -> None:
        self.write(msgpack.packb(["header", attrs.asdict(header)]))
        self.flush()
        if not self._file.replaces:
            self._file.publish()

    def footer(self, footer: Footer) -> None:
        self.write(msgpack.packb(["footer", attrs.asdict(footer)]))

    def write(self, payload: bytes) -> None:
        """Append one record; it reaches the file with the next flush, whole and in order."""
        buffer = self._buffer
        buffer += frame(payload)
        if len(buffer) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything written so far to the operating system: a killed run keeps it.

        CannotWriteError if it does not take all of that, and the file is discarded: its last record is torn.
        """
        data = bytes(self._buffer)
        self._buffer.clear()
        try:
            self._file.write(data)
        except CannotWriteError:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove the file: what was to be logged came to nothing. What it was to replace, or a device, stays."""
        self._buffer.clear()
        self._file.discard()
        self._is_open = False

    def close(self) -> None:
        """End the file, and let it have its name."""
        if not self._is_open:
            return
        try:
            self.flush()
            self._is_open = False
            self._file.publish()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, UsageError):
            self.discard()
        elif self._is_open:
            with contextlib.suppress(CannotWriteError):  # what is on its way already says more
                self.flush()
            self._file.close()


class LogReader:
    """Reads one log record by record. `header` is there at once, `footer` and `damage` after the last record.

    `damage` is one line about the place where reading had to stop: None for a whole log. A log that merely ends too
    early (the run was killed) is not `is_damaged`.
    """

    def __init__(self, path: Path) -> None:
        """Open *path* and read its header; raises UsageError (one line) if that is no log of ours."""
        self.path = path
        self.footer: Footer | None = None
        self.damage: str | None = None
        self.is_damaged = False
        try:
            self._file = path.open("rb")
            start = self._file.read(len(MAGIC) + _U16.size)
            self._size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            msg = f"{path}: cannot read the log: {error.strerror}"
            raise UsageError(msg) from None
        try:
            self._check_start(start)
            self.header = self._read_header()
        except UsageError:
            self.close()
            raise

    def _check_start(self, start: bytes) -> None:
        if not start.startswith(MAGIC) or len(start) < len(MAGIC) + _U16.size:
            msg = f"{self.path}: this is not a slabrace log (it does not start with {MAGIC.decode()!r})"
            raise DamagedLogError(msg)
        (version,) = _U16.unpack(start[len(MAGIC) :])
        if version > VERSION:
            msg = (
                f"{self.path}: log format {version} is newer than {VERSION}, which this slabrace reads; update slabrace"
            )
            raise DamagedLogError(msg)
        if version in READ_BY:
            msg = (
                f"{self.path}: log format {version} is older than {VERSION}, and its steps would do something else "
                f"here; slabrace {READ_BY[version]} reads it"
            )
            raise DamagedLogError(msg)
        if version < 1:
            msg = f"{self.path}: byte {len(MAGIC)}: there is no log format {version}; the file is damaged"
            raise DamagedLogError(msg)

    def _read_header(self) -> Header:
        payload = next(self.payloads(), None)
        if payload is None:
            msg = f"{self.path}: {self.damage or 'there is no header'}; nothing can be replayed"
            raise DamagedLogError(msg)
        try:
            return _make_header(*unpack(payload))
        except (AttributeError, TypeError, ValueError) as error:
            msg = f"{self.path}: the first record is not a header that fits: {error.args[0] if error.args else error}"
            raise DamagedLogError(msg) from None

    def payloads(self) -> Iterator[bytes]:
        """Yield the undamaged payloads from here on; stops at the first damage and says so in `damage`."""
        while True:
            offset = self._file.tell()
            payload = self._read_frame(offset)
            if payload is None:
                return
            yield payload

    def records(self) -> Iterator[tuple[bytes, list[Any]]]:
        """Yield each further payload with its decoded form; the footer is kept, not yielded."""
        for payload in self.payloads():
            record = unpack(payload)
            if record[0] == "footer":
                self.footer = Footer(**record[1])
                return
            yield payload, record
        if self.damage is None:
            self.damage = f"{self.path}: the log has no end: the run was killed; what there is can be replayed"

    def _read_frame(self, offset: int) -> bytes | None:
        first = self._file.read(1)
        if not first:
            return None
        size = first[0]
        rest = 4 if size < _LONG else 8
        head = self._file.read(rest)
        if size == _LONG and len(head) == rest:
            (size,) = _U32.unpack(head[:4])
        if not size or len(head) < rest or offset + 1 + rest + size > self._size:
            self.is_damaged = self._goes_on_behind(offset)
            what = "this length is damaged" if self.is_damaged else "the last record is torn"
            self.damage = f"{self.path}: byte {offset}: {what}"
            return None
        payload = self._file.read(size)
        (crc,) = _U32.unpack(head[-4:])
        if zlib.crc32(payload) != crc:
            self.damage = f"{self.path}: byte {offset}: the checksum does not fit; the log is damaged from here on"
            self.is_damaged = True
            return None
        return payload

    def _goes_on_behind(self, offset: int) -> bool:
        """Whether a whole record stands somewhere behind *offset*: then nothing was torn off there."""
        self._file.seek(offset + 1)
        window = self._file.read(_WINDOW)
        return any(_is_frame(window, start) for start in range(len(window)))

    def close(self) -> None:
        self._file.close()


def _make_header(tag: str, fields: dict[str, Any]) -> Header:
    """The header in the first record; TypeError, ValueError or AttributeError if that is none."""
    if tag != "header":
        msg = f"it is a {tag!r}"
        raise ValueError(msg)
    patches = tuple(PatchRecord(**patch) for patch in fields.get("patches", ()))
    return Header(**{**fields, "patches": patches, "without": tuple(fields.get("without", ()))})


def _is_frame(data: bytes, start: int) -> bool:
    """Whether a short record with a checksum that fits begins at *start*."""
    size, begin = data[start], start + 5
    if not 0 < size < _LONG or begin + size > len(data):
        return False
    (crc,) = _U32.unpack_from(data, start + 1)
    return zlib.crc32(data[begin : begin + size]) == int(crc)


def unpack(payload: bytes) -> list[Any]:
    """Decode one payload whose checksum fitted."""
    record: list[Any] = msgpack.unpackb(payload)
    return record


@attrs.define
class Names:
    """The definitions seen so far: turns the numbers in steps back into names."""

    lanes: dict[int, tuple[str, str, int | None]] = attrs.field(factory=dict)
    sets: dict[int, tuple[int, ...]] = attrs.field(factory=dict)
    functions: dict[int, str] = attrs.field(factory=dict)
    operations: dict[int, tuple[str, str]] = attrs.field(factory=dict)
    owners: dict[int, str] = attrs.field(factory=lambda: {0: ""})

    def learn(self, record: Sequence[Any]) -> None:
        """Take in a definition; other records pass by."""
        match record:
            case ["lane", number, name, kind, cpu]:
                self.lanes[number] = (name, kind, cpu)
            case ["moved", number, cpu]:
                name, kind, _ = self.lanes[number]
                self.lanes[number] = (name, kind, cpu)
            case ["set", number, lanes]:
                self.sets[number] = tuple(lanes)
            case ["fn", number, name]:
                self.functions[number] = name
            case ["op", number, name, access]:
                self.operations[number] = (name, access)
            case ["owner", number, label]:
                self.owners[number] = label

    def enabled(self, step: Step) -> tuple[str, ...]:
        """The names of the lanes that were enabled at *step*."""
        return tuple(self.lanes[number][0] for number in self.sets[step.enabled_set])

    def lane(self, step: Step) -> tuple[str, str, int | None]:
        """Name, kind and CPU of the lane that stepped."""
        return self.lanes[self.sets[step.enabled_set][step.index]]
