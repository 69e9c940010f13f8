"""Actors own state; all other code reaches it by messages only.

A message is either a *request* (an operation of an object that the actor owns; the flow that sent it waits for the
reply) or *mail* (posted without waiting; its delivery is a step of its own).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

import attrs

from actors.system.lane import SEAM, Lane
from actors.system.naming import Named
from protocol.messages import Request
from protocol.operations import READ, UPDATE, Access

if TYPE_CHECKING:
    from actors.system.flow import Flow


@types.coroutine
def receive() -> Generator[object, Any, Any]:
    """Wait for the next message to this actor."""
    return (yield SEAM)


@attrs.define(eq=False)
class Shared(Named):
    """State that an actor owns and that flows reach by requests.

    `freed` tells where the memory was freed and by which flow (None while the object lives). Any request to a freed
    object is a use-after-free. `waiters` are the flows with a conditional operation on this object that is pending;
    their conditions are evaluated again after every request to the object. `number` is its id in the log, given by the
    recorder. `trace` belongs to an observer.

    A machine has many of these objects, and few have a waiter: a tuple, as all empty ones are one object.
    """

    actor: Actor
    freed: str | None = attrs.field(default=None, init=False)
    waiters: tuple[Flow, ...] = attrs.field(default=(), init=False)
    number: int = attrs.field(default=-1, init=False)
    trace: Any = attrs.field(default=None, init=False)

    def touch(self, access: Access) -> None:
        """Record an extra access of the current step to this object."""
        on_touch = self.actor.world.on_touch
        if on_touch is not None:
            on_touch((self, access))

    def touch_part(self, part: int | str, access: Access) -> None:
        """Record an extra access to one part of this object: one CPU's part or a field. An empty name is the whole."""
        if part == "":
            self.touch(access)
            return
        on_touch = self.actor.world.on_touch
        if on_touch is not None:
            on_touch((self, READ))
            on_touch(((self, part), access))

    @property
    def label(self) -> str:
        """The name of this object in logs and reports."""
        return f"{type(self).__name__} of {self.actor.name}"

    @property
    def held_by(self) -> str:
        """For reports of lock waits: `, held by ...`, or nothing if no flow holds this lock."""
        return ""

    def blockers(self, _flow: Flow) -> tuple[Flow, ...]:
        """The flows that must act before a flow that waits here can go on; empty if they are not known."""
        return ()

    def is_held_by(self, _flow: Flow) -> bool:
        """Whether this object is a lock that the flow holds."""
        return False

    @property
    def tally(self) -> tuple[str, int] | None:
        """For a counter: its unit (`references`, `pages`) and its value. Diagrams show it."""
        return None

    def recheck(self) -> None:
        """Run the owner's `check` now: state that it compares with this object has changed elsewhere."""
        check = self.actor.check
        if check is not None:
            check()

    def reconsider(self) -> None:
        """Evaluate the conditions of the waiting flows again, after the state of this object changed."""
        for flow in self.waiters:
            request = flow.request
            flow.look_again(request.awaited.when(self, *request.args))  # type: ignore[misc]  # waiters have one


@attrs.define(eq=False)
class Actor(Lane):
    """A task with a mailbox. `main` is its coroutine; the default serves requests to the state it owns, without end.

    `check` (optional) inspects the state after each request, before the flow that sent it resumes. Its findings are
    reported at the position of that flow.
    """

    main: Callable[[Actor], Coroutine[Any, Any, None]] | None = attrs.field(default=None, kw_only=True)
    check: Callable[[], None] | None = attrs.field(default=None, init=False)
    mailbox: tuple[object, ...] = attrs.field(default=(), init=False)

    def __attrs_post_init__(self) -> None:
        self.start(self.main(self) if self.main else self.serve())

    @types.coroutine
    def serve(self) -> Generator[object, Any, None]:
        """Handle requests one by one, each atomically: check that the object lives, then apply the operation.

        The yield is `receive` without the cost of the call. Mail is a plain `Message`: it has no flow and no condition.
        """
        while True:
            request: Request = yield SEAM
            target = request.target
            if target.freed is not None:  # type: ignore[union-attr]  # a message to a serving actor has a target
                self.world.report_use_after_free(target)  # type: ignore[arg-type]  # as above
                continue
            if request.info.when is not None:
                target.waiters = tuple(flow for flow in target.waiters if flow is not request.flow)  # type: ignore[union-attr]  # as above
            if request.options:
                request.reply = request.op(*request.args, **request.options)  # type: ignore[misc]  # as above
            else:
                request.reply = request.op(*request.args)  # type: ignore[misc]  # as above
            if target.waiters:  # type: ignore[union-attr]  # as above
                target.reconsider()  # type: ignore[union-attr]  # as above

    def post(self, message: object) -> None:
        """Send mail and return at once. Its delivery is a later step of its own; mail to a retired actor is dropped."""
        if self.finished:
            return
        if self.world.on_touch is not None:
            self.world.on_touch((self, UPDATE))
        if not self.mailbox:
            if not self.bit:
                self.world.add_lane(self)
            self.world.mask |= self.bit
            self.ready_at = self.world.now
        self.mailbox += (message,)

    def retire(self) -> None:
        """End together with the memory of the owned state: every later request is an access to freed memory."""
        self.world.retire(self)
