"""Actors own state; nobody else touches it but by a message.

A message is either a *request* (an operation of some object that the actor owns; the flow that asked waits
for the reply) or *mail* (posted; nobody waits, its delivery is a step of its own).
"""

from __future__ import annotations

import sys
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, ParamSpec

import attrs

from actors.system.lane import SEAM, Lane
from actors.system.naming import Named
from protocol.operations import READ, UPDATE, Access, OperationInfo

if TYPE_CHECKING:
    from actors.system.flow import Flow

P = ParamSpec("P")

MAIL = OperationInfo("mail")


@types.coroutine
def receive() -> Generator[object, Any, Any]:
    """Wait for the next message to this actor. The seam's first await."""
    return (yield SEAM)


@attrs.define(eq=False)
class Shared(Named):
    """State that an actor owns and that flows reach by requests.

    `freed` is where and by whom the memory was freed (None while it lives): any request to a freed object is a
    use-after-free. `waiters` are the flows whose operation on this object is not enabled yet, or was not when they
    asked; their conditions are looked at again after every request to the object. `trace` is whatever an observer keeps
    of the object.
    """

    actor: Actor
    freed: str | None = attrs.field(default=None, init=False)
    waiters: list[Flow] = attrs.field(factory=list, init=False)
    number: int = attrs.field(default=-1, init=False)
    trace: Any = attrs.field(default=None, init=False)

    def touch(self, access: Access) -> None:
        """Say that the step that runs accesses this object, besides the one that it asked for."""
        on_touch = self.actor.world.on_touch
        if on_touch is not None:
            on_touch(self, access)

    def touch_part(self, part: int | str, access: Access) -> None:
        """The same of a part of this object: what is one CPU's, or a field; of the whole if the name is empty."""
        if part == "":
            self.touch(access)
            return
        on_touch = self.actor.world.on_touch
        if on_touch is not None:
            on_touch(self, READ)
            on_touch((self, part), access)

    @property
    def label(self) -> str:
        """What logs and reports call it."""
        return f"{type(self).__name__} of {self.actor.name}"

    @property
    def held_by(self) -> str:
        """For reports of who waits for whom: `, held by ...`, or nothing if nobody holds it."""
        return ""

    def blockers(self, _flow: Flow) -> tuple[Flow, ...]:
        """Who has to act before a flow that waits here can go on; nobody, if that is not known."""
        return ()

    def is_held_by(self, _flow: Flow) -> bool:
        """Whether it is a lock that this flow has."""
        return False

    @property
    def tally(self) -> tuple[str, int] | None:
        """If it is a counter: what it counts (`references`, `pages`), and how many there are now. For pictures."""
        return None

    def recheck(self) -> None:
        """Let the owner's `check` look now: something that its state is compared with has changed elsewhere."""
        check = self.actor.check
        if check is not None:
            check()

    def reconsider(self) -> None:
        """Look again at who may go on, after this object's state changed."""
        for flow in self.waiters:
            request = flow.request
            flow.look_again(request.awaited.when(self, *request.args))  # type: ignore[misc]  # waiters have one


@attrs.define(eq=False)
class Message:
    """What an actor that serves is sent: a bound operation, its arguments and, afterwards, the reply."""

    op: Callable[..., object] | None = None
    args: tuple[object, ...] = ()
    options: dict[str, object] = attrs.field(factory=dict)
    info: OperationInfo = MAIL
    target: Shared | None = None
    reply: object = None

    @classmethod
    def mail(cls, op: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Message:
        """An operation to be posted; the method need not be declared as one."""
        target, info = op.__self__, getattr(op, "operation", MAIL)  # type: ignore[attr-defined]  # a bound method of Shared state
        return cls(op, args, kwargs, info, target)


@attrs.define(eq=False)
class Request(Message):
    """One access by a flow.

    A flow has at most one request outstanding and re-uses this record for the next. `actor` is None for an access
    to per-CPU data of the flow's own CPU: there the flow is the owner, and touches it when it steps.
    `code` is the kernel function that asks (its code object). `awaited` is the operation of a request that has to wait:
    `info` differs from it while the flow can only begin to spin.
    """

    flow: Flow = attrs.field(kw_only=True)
    actor: Actor | None = None
    awaited: OperationInfo = MAIL
    code: types.CodeType = attrs.field(factory=lambda: sys._getframe().f_code)


@attrs.define(eq=False)
class Actor(Lane):
    """A task with a mailbox. `main` is its life; by default it serves requests to the state it owns for ever.

    `check` looks at the state after each request, if somebody wants that, before the flow that asked goes on: what it
    finds is reported where that flow stands.
    """

    main: Callable[[Actor], Coroutine[Any, Any, None]] | None = attrs.field(default=None, kw_only=True)
    check: Callable[[], None] | None = attrs.field(default=None, init=False)
    mailbox: deque[object] = attrs.field(factory=deque, init=False)

    def __attrs_post_init__(self) -> None:
        self.start(self.main(self) if self.main else self.serve())

    @types.coroutine
    def serve(self) -> Generator[object, Any, None]:
        """Handle one request after the other, each atomically: check that the object lives, then apply the operation.

        The yield is `receive`, without the call. Mail is a mere `Message`; it has no flow, and waits for nothing.
        """
        while True:
            request: Request = yield SEAM
            target = request.target
            if target.freed is not None:  # type: ignore[union-attr]  # what an actor is sent has a target
                self.world.report_use_after_free(target)  # type: ignore[arg-type]  # as above
                continue
            if request.info.when is not None:
                target.waiters.remove(request.flow)  # type: ignore[union-attr]  # as above
            op, options = request.op, request.options
            request.reply = op(*request.args, **options) if options else op(*request.args)  # type: ignore[misc]  # as above
            if target.waiters:  # type: ignore[union-attr]  # as above
                target.reconsider()  # type: ignore[union-attr]  # as above

    def post(self, message: object) -> None:
        """Send mail: returns at once; the delivery is a step of its own, enabled from now on (never, once retired)."""
        if self.finished:
            return
        if self.world.on_touch is not None:
            self.world.on_touch(self, UPDATE)
        if not self.mailbox:
            if not self.bit:
                self.world.add_lane(self)
            self.world.mask |= self.bit
            self.ready_at = self.world.now
        self.mailbox.append(message)

    def retire(self) -> None:
        """End with the memory of the state it owned: whoever asks from now on touches freed memory."""
        self.world.retire(self)
