"""Operations: the requests that an actor handles for the state it owns.

An operation is a method of the owner's state, declared with `operation`. The declaration gives the facts that the rest
of slabrace needs without reading the body: whether it reads or changes, its cost in virtual time, whether it may sleep,
and when it is enabled. A request *is* a bound operation and its arguments.
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
    """The kind of access to an object. Two reads of one object never race, nor do two commuting accesses.

    `explorer.accesses.clash` applies this rule to whole steps.

    A commuting access changes the object, but two of them have the same effect in either order: additions to a sum that
    neither reads, wake-ups.
    """

    READ = 0
    UPDATE = 1
    COMMUTE = 2


@attrs.frozen(eq=False)
class OperationInfo:
    """The declared facts of one operation.

    `cost` is in virtual nanoseconds. `latency` is the range of nanoseconds between the moment the operation becomes
    possible and the earliest moment it can happen (only the `clock` strategy uses it). `when` is the condition under
    which it is enabled: a flow that asks earlier waits; it never spins. `sleeps` marks operations that the kernel
    allows only in process context (might_sleep). `idle` marks the wait of a service for its next piece of work: a flow
    waiting there is idle, not stuck. `looks_at_contexts`: its effect depends on which flows are in an atomic context.
    `part` is the accessed part of the object (a field of the C struct), if not the whole. `lifecycle` marks the
    operations that move an object from one state of its life to another, or read that state: `surw` orders these.
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
    lifecycle: bool = False


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
    lifecycle: bool = False,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a method as an operation, which flows ask of its owner (see `OperationInfo`)."""

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
            lifecycle=lifecycle,
        )
        return method

    return declare


READ = Access.READ
UPDATE = Access.UPDATE
COMMUTE = Access.COMMUTE
