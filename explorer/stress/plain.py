"""Plain data: MessagePack of attrs classes and structs, typed when it is read. No code of a store is ever run."""

from __future__ import annotations

import zlib
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def pack(value: Any) -> bytes:
    """*value* as MessagePack; equal values have equal bytes."""
    return msgspec.msgpack.encode(value, order="sorted")


def unpack(data: bytes, kind: type[T]) -> T:
    """The value that `pack` was given; msgspec.MsgspecError if it is not of this kind."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_make)


def compress(value: Any) -> bytes:
    """*value* as compressed MessagePack, for rows that live as long as an epoch."""
    return zlib.compress(pack(value), 1)


def expand(data: bytes, kind: type[T]) -> T:
    """The value that `compress` was given; msgspec.MsgspecError if it is not of this kind."""
    try:
        return unpack(zlib.decompress(data), kind)
    except zlib.error as error:
        msg = f"compressed data: {error}"
        raise msgspec.DecodeError(msg) from None


def _make(kind: type[T], value: Any) -> T:
    """A Counter, which msgspec does not know."""
    return kind(value)  # type: ignore[call-arg]  # Counter, the only such type, takes its values
