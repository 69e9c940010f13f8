"""Independent parts of a command, here or in worker processes, with their answers in one fixed order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from explorer.workers import Pool, Task


def in_order(call: Callable[..., Any], parts: Sequence[tuple[str, tuple[Any, ...]]], workers: int) -> Iterator[Any]:
    """The answers of `call(*arguments, tell)` for each part, which is a name for messages and the arguments.

    The order is that of the parts, whatever the number of workers. *call* has to be importable, and the answers
    picklable.
    """
    if workers == 1 or len(parts) <= 1:
        for _, arguments in parts:
            yield call(*arguments, _tell_nobody)
        return
    pool = Pool(workers)
    tasks = [Task(name, call, arguments) for name, arguments in parts]
    try:
        for task in tasks:
            pool.add(task)
        for task in tasks:
            yield pool.answer(task)
    finally:
        pool.close()


def _tell_nobody(news: object) -> None:
    """Without a worker nobody waits for news."""
