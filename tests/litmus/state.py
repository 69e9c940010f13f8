"""The states of the reference: plain and immutable, so that they can be compared and kept."""

from __future__ import annotations

from typing import Any


class State:
    """One state, made of tuples; `key` is all of it.

    `places` are where the flows are: tasks, then each CPU's hard interrupt, softirq and workers; None if idle or ended.
    `callbacks` are, by CPU, those that are queued, oldest first: with eager grace periods each with whom it waits for;
    with batched ones three queues, of those that wait for a start, for an end, and for nothing. `readers` are whom the
    grace period waits for, if one runs. `jobs` are what workers execute: (work, ticket, what was left to them).
    """

    __slots__ = (
        "batches",
        "callbacks",
        "done",
        "ipis",
        "jobs",
        "last_pool",
        "locks",
        "memory",
        "noted",
        "pending",
        "places",
        "pools",
        "readers",
        "unfinished",
    )

    batches: tuple[tuple[int, ...], ...]
    callbacks: tuple[Any, ...]
    done: int
    ipis: tuple[tuple[int, ...], ...]
    jobs: tuple[tuple[int, int, tuple[tuple[int, int], ...]] | None, ...]
    last_pool: tuple[int | None, ...]
    locks: tuple[int | None, ...]
    memory: tuple[int | None, ...]
    noted: tuple[tuple[int, int, int], ...]
    pending: int
    places: tuple[tuple[int, int] | None, ...]
    pools: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    readers: frozenset[int] | None
    unfinished: tuple[tuple[int, ...], ...]

    def copy(self) -> State:
        """Another one that is the same."""
        new = State()
        for name in State.__slots__:
            setattr(new, name, getattr(self, name))
        return new

    def key(self) -> tuple[Any, ...]:
        """What makes it this state."""
        return (
            self.places,
            self.memory,
            self.locks,
            self.done,
            self.callbacks,
            self.readers,
            self.batches,
            self.ipis,
            self.jobs,
            self.pools,
            self.pending,
            self.last_pool,
            self.unfinished,
            self.noted,
        )


def put(items: tuple[Any, ...], index: int, item: object) -> tuple[Any, ...]:
    """The tuple with another item at *index*."""
    return (*items[:index], item, *items[index + 1 :])
