"""The path of an exact search as bytes: plain data, for another process or for a file."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from explorer.search.strategies.dpor import Node, Sleeper, Tried
from explorer.search.strategies.prefix import State
from protocol.operations import Access


class SleeperRecord(msgspec.Struct, frozen=True, array_like=True):
    """A `Sleeper`."""

    accesses: dict[str, Access]
    cpu: int | None
    keeps_off: int


class EventRecord(msgspec.Struct, frozen=True, array_like=True):
    """A `Tried` step."""

    lane: str
    accesses: dict[int, Access]
    after_quiet: bool
    may_wait: bool
    cpu: int | None
    rank: int
    keeps_off: int
    values: list[int]
    counts: list[int]
    named: dict[str, Access]
    is_seen: bool
    spins: bool
    place: int
    is_meeting: bool


class NodeRecord(msgspec.Struct, frozen=True, array_like=True):
    """A `Node`; `sleeping` has the places of the sleepers in the path's list."""

    enabled: tuple[str, ...]
    sleeping: dict[str, int]
    event: EventRecord
    to_try: dict[str, list[list[int]]]
    waiting: tuple[str, ...]
    waits: tuple[str, ...] | None


class PathRecord(msgspec.Struct, frozen=True, array_like=True):
    """Successive states of a path; states share sleepers."""

    sleepers: list[SleeperRecord]
    nodes: list[NodeRecord]


_DECODER = msgspec.msgpack.Decoder(PathRecord)
_EVENT = EventRecord.__struct_fields__
_SLEEPER = SleeperRecord.__struct_fields__


def pack(path: Iterable[Node]) -> bytes:
    """The states of *path*, with the steps that are tried there, as bytes."""
    places: dict[int, int] = {}
    sleepers: list[Sleeper] = []
    nodes = []
    for node in path:
        for sleeper in node.sleeping.values():
            if id(sleeper) not in places:
                places[id(sleeper)] = len(sleepers)
                sleepers.append(sleeper)
        sleeping = {lane: places[id(sleeper)] for lane, sleeper in node.sleeping.items()}
        event = [getattr(node.event, name) for name in _EVENT]
        waits = None if node.state is None else node.state.waits
        nodes.append((node.enabled, sleeping, event, node.to_try, sorted(node.waiting), waits))
    shared = [[getattr(sleeper, name) for name in _SLEEPER] for sleeper in sleepers]
    return msgspec.msgpack.encode((shared, nodes))


def unpack(data: bytes) -> list[Node]:
    """The states in *data*; msgspec.DecodeError if these are no states."""
    record = _DECODER.decode(data)
    sleepers = [Sleeper(*(getattr(one, name) for name in _SLEEPER)) for one in record.sleepers]
    return [
        Node(
            one.enabled,
            {lane: sleepers[place] for lane, place in one.sleeping.items()},
            Tried(**{name: getattr(one.event, name) for name in _EVENT}),
            one.to_try,
            frozenset(one.waiting),
            None if one.waits is None else State(one.enabled, one.waits),
        )
        for one in record.nodes
    ]
