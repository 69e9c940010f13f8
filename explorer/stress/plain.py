"""Plain data: MessagePack of attrs classes and structs, typed when it is read. No code of a store is ever run."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def pack(value: Any) -> bytes:
    """*value* as MessagePack; equal values have equal bytes."""
    return msgspec.msgpack.encode(value, order="sorted")


def unpack(data: bytes, kind: type[T]) -> T:
    """The value that `pack` was given; msgspec.MsgspecError if it is not of this kind."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_make)


def _make(kind: type[T], value: Any) -> T:
    """A Counter, which msgspec does not know."""
    return kind(value)  # type: ignore[call-arg]
