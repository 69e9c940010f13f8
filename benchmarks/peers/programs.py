"""The programs of `benchmarks.small` for asyncio: before each access but the first of a task others may come between.

The first access needs no such point: that a task begins is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Worker = Callable[[Any], Awaitable[None]]
Program = tuple[Callable[[], Any], Sequence[Worker], Callable[[Any], bool]]
"""Makes the state, what the tasks do with it, and whether what came out is the flaw."""


class Cells:
    """Numbers, what was seen of them, and locks. The numbers are in a list: frontrun sees who uses which of them."""

    def __init__(self, count: int, tasks: int = 0, locks: int = 0) -> None:
        self.x = [0] * count
        self.seen = [0] * tasks
        self.found = -1
        self.locks = [asyncio.Lock() for _ in range(locks)]


async def point() -> None:
    """Let others come between."""
    await asyncio.sleep(0)


def lost_update(tasks: int, rounds: int) -> Program:
    """Tasks count without a lock; an update may be lost."""

    async def count(s: Any) -> None:
        for number in range(rounds):
            if number:
                await point()
            value = s.x[0]
            await point()
            s.x[0] = value + 1

    return lambda: Cells(1), [count] * tasks, lambda s: s.x[0] != tasks * rounds


def all_lost(tasks: int) -> Program:
    """The same, once each; the flaw is that all updates but one are lost."""
    make, workers, _ = lost_update(tasks, 1)
    return make, workers, lambda s: s.x[0] == 1


def readers(count: int) -> Program:
    """One writes, the others read; the flaw is that every second reader, and no other, sees it."""

    async def write(s: Any) -> None:
        s.x[0] = 1

    def reader(i: int) -> Worker:
        async def read(s: Any) -> None:
            s.seen[i] = s.x[0]

        return read

    wanted = [i % 2 for i in range(count)]
    return lambda: Cells(1, count), [write, *map(reader, range(count))], lambda s: s.seen == wanted


def last_zero(count: int) -> Program:
    """Writer i sets x[i] to x[i-1] + 1, a reader looks for the last zero; the flaw is that it has to go all the way."""

    async def look(s: Any) -> None:
        i = count
        while s.x[i] != 0:
            i -= 1
            await point()
        s.found = i

    def writer(i: int) -> Worker:
        async def write(s: Any) -> None:
            before = s.x[i - 1]
            await point()
            s.x[i] = before + 1

        return write

    workers = [look, *map(writer, range(1, count + 1))]
    return lambda: Cells(count + 1), workers, lambda s: s.found == 0 and s.x[count] == count


def reorder(setters: int) -> Program:
    """Setters write one cell, then the other; a checker sees the first one set, and the other not yet."""

    async def set_both(s: Any) -> None:
        s.x[0] = 1
        await point()
        s.x[1] = -1

    async def check(s: Any) -> None:
        first = s.x[0]
        await point()
        s.seen[:] = [first, s.x[1]]

    return lambda: Cells(2, 2), [*[set_both] * setters, check], lambda s: s.seen == [1, 0]


def philosophers(count: int) -> Program:
    """Each takes the lock on its one side, then that on the other; the flaw is a deadlock."""

    def philosopher(i: int) -> Worker:
        async def eat(s: Any) -> None:
            first, second = s.locks[i], s.locks[(i + 1) % count]
            await first.acquire()
            await point()
            await second.acquire()
            await point()
            second.release()
            await point()
            first.release()

        return eat

    return lambda: Cells(0, locks=count), [philosopher(i) for i in range(count)], lambda _s: False


def make(name: str, arguments: Sequence[int]) -> Program:
    """The program of that name, of that size."""
    programs: dict[str, Callable[..., Program]] = {
        "lost_update": lost_update,
        "all_lost": all_lost,
        "readers": readers,
        "last_zero": last_zero,
        "reorder": reorder,
        "philosophers": philosophers,
    }
    return programs[name](*arguments)
