"""The states of the reference, made of immutable values, so that they can be compared and stored."""

from __future__ import annotations

from typing import Any


class State:
    """One state, made of tuples; `key` has all of it.

    `places` are the positions of the flows: tasks, then each CPU's hard interrupt, softirq and workers; None if idle or
    ended. `callbacks` are the queued callbacks by CPU, oldest first. With eager grace periods each has the set of flows
    that it waits for. With batched ones there are three queues: callbacks that wait for the start of a grace period,
    for its end, and for the softirq. `readers` are the flows that the running grace period waits for, if one runs.
    `jobs` are the jobs of workers: (work, ticket, items that wait for this worker).
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
        """A copy of the state."""
        new = State()
        for name in State.__slots__:
            setattr(new, name, getattr(self, name))
        return new

    def key(self) -> tuple[Any, ...]:
        """The identity of the state: equal keys mean equal states."""
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
    """The tuple with *item* at *index*."""
    return (*items[:index], item, *items[index + 1 :])
