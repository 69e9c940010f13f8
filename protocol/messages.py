"""The messages between actors: a request of a flow, which waits for the reply, and mail, which is posted.

A message is the only way to the state of another actor. The dependence relation of the search rests on the declared
operations of messages (`explorer/accesses.py`).
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec

import attrs

from protocol.operations import OperationInfo

if TYPE_CHECKING:
    from actors.system.actor import Actor, Shared
    from actors.system.flow import Flow

P = ParamSpec("P")

MAIL = OperationInfo("mail")
"""The operation of mail whose method is not declared as one."""


@attrs.define(eq=False)
class Message:
    """A message to an actor: a bound operation, its arguments and, after it was handled, the reply."""

    op: Callable[..., object] | None = None
    args: tuple[object, ...] = ()
    options: dict[str, object] = attrs.field(factory=dict)
    info: OperationInfo = MAIL
    target: Shared | None = None
    reply: object = None

    @classmethod
    def mail(cls, op: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Message:
        """A message that posts a call of *op*; the method need not be declared as an operation."""
        target, info = op.__self__, getattr(op, "operation", MAIL)  # type: ignore[attr-defined]  # a bound method of Shared state
        return cls(op, args, kwargs, info, target)


@attrs.define(eq=False)
class Request(Message):
    """One access by a flow.

    A flow has at most one request outstanding and re-uses this record for the next. `actor` is None for an access to
    per-CPU data of the flow's own CPU: the flow owns that data and accesses it during its step. `code` is the code
    object of the kernel function that makes the request. `awaited` is the operation of a conditional request; `info`
    differs from it while the flow can only begin to spin.
    """

    flow: Flow = attrs.field(kw_only=True)
    actor: Actor | None = None
    awaited: OperationInfo = MAIL
    code: types.CodeType = attrs.field(factory=lambda: sys._getframe().f_code)
