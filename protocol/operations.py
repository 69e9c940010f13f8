"""Operations: what a message asks of the actor that owns some state.

An operation is a method of the owner's state, declared with `operation`. Its declaration says all that the
rest of slabrace must know without reading its body: whether it reads or changes, what it costs in virtual
time, whether it may sleep, and when it is enabled. A request *is* a bound operation and its arguments.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import attrs

P = ParamSpec("P")
R = TypeVar("R")

ATOMIC_NS = 20  # an uncontended atomic instruction on a warm line
REMOTE_NS = 100  # a cache line that another CPU wrote last


class Access(enum.IntEnum):
    """How an operation touches its object. Two reads of one object never race, and neither do two that commute.

    What commutes changes the object, but with each other in either order to the same effect: adding to a sum that
    neither looks at, waking.
    """

    READ = 0
    UPDATE = 1
    COMMUTE = 2


@attrs.frozen(eq=False)
class OperationInfo:
    """The declared facts of one operation.

    `cost` is virtual nanoseconds. `latency` is the range of nanoseconds that pass between the moment the operation
    becomes possible and the earliest moment it can happen (only the `clock` strategy honours it). `when` is the
    condition under which it is enabled: a flow that asks earlier waits, it never spins. `sleeps` marks what the kernel
    may only do in process context (might_sleep). `idle` marks the wait of a service for its next piece of work: a flow
    waiting there is at rest, not stuck. `looks_at_contexts`: it depends on which flows are in an atomic context. `part`
    is what of the object it accesses (a field of the C struct), if not the whole.
    """

    name: str
    access: Access = Access.UPDATE
    cost: int = REMOTE_NS
    latency: tuple[int, int] = (0, 0)
    when: Callable[..., bool] | None = None
    sleeps: bool = False
    idle: bool = False
    looks_at_contexts: bool = False
    part: str = ""


def operation(
    access: Access,
    *,
    name: str | None = None,
    cost: int = REMOTE_NS,
    latency: tuple[int, int] = (0, 0),
    when: Callable[..., bool] | None = None,
    sleeps: bool = False,
    idle: bool = False,
    looks_at_contexts: bool = False,
    part: str = "",
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a method as an operation that flows may ask of its owner (see `OperationInfo`)."""

    def declare(method: Callable[P, R]) -> Callable[P, R]:
        function: Any = method
        function.operation = OperationInfo(
            name=name or function.__name__,
            access=access,
            cost=cost,
            latency=latency,
            when=when,
            sleeps=sleeps,
            idle=idle,
            looks_at_contexts=looks_at_contexts,
            part=part,
        )
        return method

    return declare


READ = Access.READ
UPDATE = Access.UPDATE
COMMUTE = Access.COMMUTE
