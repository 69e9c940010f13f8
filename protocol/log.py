"""The log: one file a run, framed msgpack records that survive a crash and make damage detectable.

    file    = magic version frame*
    magic   = b"slabrace"                      version = u16, little-endian
    frame   = length crc payload               length = u8 below 255, or 255 and u32; crc = CRC-32 of payload, u32
    payload = msgpack array

`protocol.records` has the schema of the payloads. docs/log-format.md is the reference.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgpack
import msgspec

from protocol.atomic import CannotWriteError, NewFile
from protocol.errors import DamagedLogError, UsageError
from protocol.records import (
    STEP_BYTE,
    Contents,
    Footer,
    FooterRecord,
    Header,
    Record,
    WrongRecordError,
    decode,
    decode_header,
)

MAGIC = b"slabrace"
VERSION = 2
"""Format 2: a section is in force from its flow's next step on (ADR 11), so choices of format 1 have other effects."""

READ_BY = {1: "0.1"}
"""The version of slabrace that reads each format that this one refuses."""

FLUSH_BYTES = 1 << 16

LONGEST_HEADER = 1 << 23
"""Bytes of a header, which may contain whole files of a few MiB each."""

LONGEST_RECORD = 1 << 20
"""Bytes of any other record. A length above this is damage."""

_LONG = 255
_BLOCK = 1 << 20
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_HEAD = struct.Struct("<BI")
_LONG_HEAD = struct.Struct("<BII")
_START = len(MAGIC) + _U16.size
_MARKS = (bytes([STEP_BYTE]), b"\x92\xa6footer")
"""The first bytes of payloads that occur throughout a log (steps) and at its end (the footer)."""


def frame(payload: bytes) -> bytes:
    """Return *payload* with its length and checksum in front."""
    size = len(payload)
    if size < _LONG:
        return _HEAD.pack(size, zlib.crc32(payload)) + payload
    return _LONG_HEAD.pack(_LONG, size, zlib.crc32(payload)) + payload


class LogWriter:
    """Writes one log file; refuses to overwrite an existing one unless told to (`overwrite`).

    A new file has its name from its header on, so a killed run leaves everything that was flushed. A replacement takes
    its place only when it is closed; until then the old file stays. The end of a with block closes the file. A
    UsageError discards it; after any other exception a file with a name keeps its content so far.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Create the file; UsageError in one line if that fails."""
        self._file = NewFile(path, overwrite=overwrite)
        self._buffer = bytearray(MAGIC + _U16.pack(VERSION))
        self._is_open = True

    def header(self, header: Header) -> None:
        payload: bytes = msgpack.packb(["header", msgspec.to_builtins(header)])
        self._check_size(payload, LONGEST_HEADER)
        self._append(payload)
        self.flush()
        if not self._file.replaces:
            self._file.publish()

    def footer(self, footer: Footer) -> None:
        self.write(msgpack.packb(["footer", msgspec.to_builtins(footer)]))

    def write(self, payload: bytes) -> None:
        """Append one record; it reaches the file with the next flush, whole and in order."""
        self._check_size(payload, LONGEST_RECORD)
        self._append(payload)

    def _check_size(self, payload: bytes, most: int) -> None:
        if len(payload) > most:
            msg = f"{self._file.path}: a record of {len(payload)} bytes, and a log takes {most} at most"
            raise UsageError(msg)

    def _append(self, payload: bytes) -> None:
        buffer = self._buffer
        buffer += frame(payload)
        if len(buffer) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write all data so far to the operating system, which keeps it even if the run is killed.

        CannotWriteError if the write fails. The file is then discarded, because its last record is torn.
        """
        data = bytes(self._buffer)
        self._buffer.clear()
        try:
            self._file.write(data)
        except CannotWriteError:
            self.discard()
            raise

    def discard(self) -> None:
        """Remove the file after a failure. A file that it was to replace, or a device, stays."""
        self._buffer.clear()
        self._file.discard()
        self._is_open = False

    def close(self) -> None:
        """Flush and close the file, and give it its name."""
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
            with contextlib.suppress(CannotWriteError):  # the first exception says more
                self.flush()
            self._file.close()


class LogReader:
    """Reads one log record by record. `header` is known at once, `footer` and `damage` after the last record.

    `damage` is one line about the place where reading had to stop; None for a whole log. A log that merely ends early
    (the run was killed) is not `is_damaged`.
    """

    def __init__(self, path: Path) -> None:
        """Open *path* and read its header; UsageError (one line) if it is not a slabrace log."""
        self.path = path
        self.footer: Footer | None = None
        self.damage: str | None = None
        self.is_damaged = False
        self._contents = Contents()
        try:
            self._file = path.open("rb")
            start = self._file.read(_START)
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
        if not start.startswith(MAGIC) or len(start) < _START:
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
                f"{self.path}: log format {version} is older than {VERSION}, and its steps would have other effects "
                f"here; slabrace {READ_BY[version]} reads it"
            )
            raise DamagedLogError(msg)
        if version < 1:
            msg = f"{self.path}: byte {len(MAGIC)}: there is no log format {version}; the file is damaged"
            raise DamagedLogError(msg)

    def _read_header(self) -> Header:
        payload = self._read_frame(_START, LONGEST_HEADER)
        if payload is None:
            msg = f"{self.damage or f'{self.path}: there is no header'}; nothing can be replayed"
            raise DamagedLogError(msg)
        try:
            return decode_header(payload)
        except WrongRecordError as error:
            msg = f"{self.path}: byte {_START}: the first record is not a header that fits: {error}"
            raise DamagedLogError(msg) from None

    def records(self) -> Iterator[tuple[bytes, Record]]:
        """Yield each further payload with its record, and keep the footer. Stop at the first damage."""
        while True:
            offset = self._file.tell()
            payload = self._read_frame(offset)
            if payload is None:
                break
            try:
                record = decode(payload)
                if isinstance(record, FooterRecord):
                    self._end_with(record.footer)
                    return
                self._contents.take(payload, record)
            except WrongRecordError as error:
                self._stop_at(offset, f"{error}; the log is damaged from here on")
                return
            yield payload, record
        if self.damage is None:
            self.damage = f"{self.path}: the log has no end: the run was killed; its steps so far can be replayed"

    def check_undamaged(self) -> None:
        """Read to the end; DamagedLogError at damage. A truncated log of a killed run is not damaged."""
        for _ in self.records():
            pass
        if self.is_damaged:
            msg = f"{self.damage}; slabrace replay runs the undamaged part"
            raise DamagedLogError(msg)

    def _end_with(self, footer: Footer) -> None:
        """Check the footer against the records, and that it is the end of the file."""
        self._contents.check(footer, self.header.shows)
        self.footer = footer
        end = self._file.tell()
        if end < self._size:
            self._stop_at(end, f"{self._size - end} bytes stand behind the end of the log; cut them off")

    def _read_frame(self, offset: int, most: int = LONGEST_RECORD) -> bytes | None:
        """The payload of the frame at *offset*, the present file position; None at the end or at damage."""
        first = self._file.read(1)
        if not first:
            return None
        size = first[0]
        rest = 4 if size < _LONG else 8
        head = self._file.read(rest)
        if size == _LONG and len(head) == rest:
            (size,) = _U32.unpack(head[:4])
        is_short = len(head) < rest or offset + 1 + rest + size > self._size
        if not 0 < size <= most or is_short:
            self._say_what_is_short(offset)
            return None
        payload = self._file.read(size)
        (crc,) = _U32.unpack(head[-4:])
        if zlib.crc32(payload) != crc:
            self._stop_at(offset, "the checksum does not fit; the log is damaged from here on")
            return None
        return payload

    def _say_what_is_short(self, offset: int) -> None:
        """Record that the frame at *offset* is incomplete: torn by a kill, or damaged if whole records follow it."""
        if self._goes_on_behind(offset):
            self._stop_at(offset, "this length is damaged")
        else:
            self.damage = f"{self.path}: byte {offset}: the last record is torn"

    def _stop_at(self, offset: int, what: str) -> None:
        self.damage = f"{self.path}: byte {offset}: {what}"
        self.is_damaged = True

    def _goes_on_behind(self, offset: int) -> bool:
        """Whether a whole step or footer follows somewhere after *offset*: then the log was not cut off there."""
        self._file.seek(offset + 1)
        window = b""
        while block := self._file.read(_BLOCK):
            window = window[-_LONG - _HEAD.size :] + block
            if any(_is_frame(window, start) for mark in _MARKS for start in _places(window, mark)):
                return True
        return False

    def close(self) -> None:
        self._file.close()


def _places(window: bytes, mark: bytes) -> Iterator[int]:
    """The positions in *window* where a short frame could begin whose payload begins with *mark*."""
    at = window.find(mark, _HEAD.size)
    while at >= 0:
        yield at - _HEAD.size
        at = window.find(mark, at + 1)


def _is_frame(data: bytes, start: int) -> bool:
    """Whether a short record with a correct checksum begins at *start*."""
    size, begin = data[start], start + _HEAD.size
    if not 0 < size < _LONG or begin + size > len(data):
        return False
    (crc,) = _U32.unpack_from(data, start + 1)
    return zlib.crc32(data[begin : begin + size]) == int(crc)
