"""The Trio driver: every actor and every flow is a Trio task.

The tasks pass a baton. `trio.lowlevel.reschedule` wakes a parked task with its next job (a *turn*); at the end of its
slice the task passes the baton on and parks. So exactly one task can run at any time, Trio's own order cannot matter,
and a message costs one task switch. One step of a flow is:

    holder of the baton: choose the next lane; its request goes to the owner's task
    owner's task:        handles the request; the baton goes to the flow's task
    flow's task:         runs on to its next await, and is now the holder of the baton

A flow that goes on, because the next choice is the flow itself, keeps the baton: its task lets the owner handle the
request without the two task switches. There is no central loop and no queue in between: the holder of the baton makes
the world's choice (`_hand_on`). A task starts when it is first needed and ends with its actor. A later request to that
actor is a use-after-free, and a new task is started to report it. Cancelling the nursery (an outer cancel scope, a
crash) closes every coroutine at its await. Every `BREATH` steps the holder lets Trio process deadlines and signals.
"""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING

import attrs
import outcome
import trio

from actors.system.actor import Actor
from actors.system.flow import Flow
from protocol.messages import Request

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World

BREATH = 500
"""Steps between two checkpoints: cancellation and deadlines take effect within some tens of milliseconds.

Trio runs the tasks of a batch in random order, so another task may have to wait for two checkpoints.
"""

NOTHING = object()
"""No turn: the task that has just stepped does not step next."""

SIGNALS = (signal.SIGALRM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

END = object()
"""The turn that ends a task: its actor has retired."""


@attrs.define(eq=False)
class TrioDriver:
    """Runs one world. `seconds_per_virtual_second` slows a run down for watching; None means full speed.

    `error` is the first exception that a slice raised.
    """

    world: World
    seconds_per_virtual_second: float | None = None
    error: BaseException | None = attrs.field(default=None, init=False)
    _nursery: trio.Nursery = attrs.field(init=False)
    _tasks: dict[Lane, trio.lowlevel.Task] = attrs.field(factory=dict, init=False)
    _over: trio.Event = attrs.field(factory=trio.Event, init=False)
    _again: object = attrs.field(default=NOTHING, init=False)
    _is_cancelled: bool = attrs.field(default=False, init=False)
    _paced_until: int = attrs.field(default=0, init=False)

    async def run(self) -> None:
        """Run the world to its end, or until the surrounding scope is cancelled.

        An exception of a slice is raised from here unchanged. Trio never sees it, because it gives some exceptions a
        meaning of its own: a Cancelled would end its scope, a KeyboardInterrupt would be Ctrl-C.
        """
        self.world.on_retire = self._retire
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._choose()
                await self._over.wait()
                nursery.cancel_scope.cancel()
        finally:
            if self.error is not None or not self._over.is_set():
                self._close_flows()
            if self.error is not None:
                raise self.error

    def _close_flows(self) -> None:
        """End all flows at their current awaits; an exception that this causes counts only without an earlier error."""
        for flow in list(self.world.flows):
            try:
                flow.close()
            except BaseException as error:  # noqa: BLE001 -- `run` raises it
                self.error = self.error or error

    # -- the baton ----------------------------------------------------------------------------------------------------

    def _choose(self, holder: Flow | None = None) -> None:
        """Make the world's next choice, and give the baton to the task with the first turn in that step.

        If that is the *holder* of the baton, its request is handled here, and it goes on.
        """
        lane = self.world.next_lane()
        while lane is not None and lane is holder:
            if self._is_handled(holder.request):
                self._again = None
                return
            lane = self.world.next_lane()
        if lane is None:
            self._over.set()
            return
        request = lane.request
        if request is None:
            self._give(lane, self.world.take_mail(lane))  # type: ignore[arg-type]  # a lane without requests is an actor
        else:
            self._give(request.actor or lane, request if request.actor else None)

    def _hand_on(self, lane: Lane, turn: object) -> None:
        """End the slice of *lane*: resume the flow whose request it handled, or finish the step and choose the next."""
        if isinstance(turn, Request) and turn.flow is not lane and self.world.stopped is None:
            if turn.actor is not None and turn.actor.check is not None:
                turn.actor.check()
            self._give(turn.flow, None)
        elif isinstance(lane, Flow):
            self.world.finish_step(lane)
            self._choose(lane)
        else:
            self._choose()

    def _is_handled(self, request: Request) -> bool:
        """Let the owner handle *request*, if it has one; False if that ends the run."""
        if request.actor is not None:
            request.actor.resume(request)
            if self.world.stopped is not None:
                return False
            if request.actor.check is not None:
                request.actor.check()
        return True

    def _give(self, lane: Lane, turn: object) -> None:
        if self._is_cancelled:
            return  # no task is left to take the baton
        task = self._tasks.get(lane)
        if task is None:
            self._nursery.start_soon(self._live, lane, turn, name=lane.name)
        elif task is trio.lowlevel.current_task():
            self._again = turn
        else:
            trio.lowlevel.reschedule(task, outcome.Value(turn))

    async def _live(self, lane: Lane, turn: object) -> None:
        """The loop of one task: take a turn, run a slice, pass the baton on, park."""
        self._tasks[lane] = task = trio.lowlevel.current_task()
        try:
            while True:
                try:
                    lane.resume(turn)
                except BaseException as error:  # noqa: BLE001 -- `run` raises it
                    self._fail(error)
                    return
                if self.world.steps % BREATH == 0 or self.seconds_per_virtual_second:
                    await self._breathe()
                try:
                    self._hand_on(lane, turn)
                except BaseException as error:  # noqa: BLE001 -- as above
                    self._fail(error)
                    return
                turn, self._again = self._again, NOTHING
                if turn is NOTHING:
                    if lane.finished:
                        return
                    turn = await trio.lowlevel.wait_task_rescheduled(self._abort)
                if turn is END:
                    return
        finally:
            if self._tasks.get(lane) is task:
                del self._tasks[lane]

    def _fail(self, error: BaseException) -> None:
        """End the run after an error: no task steps any more."""
        self.error = error
        self._is_cancelled = True
        self._over.set()

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._is_cancelled = True
        return trio.lowlevel.Abort.SUCCEEDED

    def _retire(self, actor: Actor) -> None:
        """End the task of *actor* at its next turn; a new task serves later requests for the freed state."""
        task = self._tasks.get(actor)
        if task is not None and task is not trio.lowlevel.current_task() and not self._is_cancelled:
            del self._tasks[actor]
            trio.lowlevel.reschedule(task, outcome.Value(END))

    async def _breathe(self) -> None:
        """Let Trio process deadlines and signals; in a paced run, wait for the wall clock."""
        pace = self.seconds_per_virtual_second or 0.0
        ahead = self.world.now - self._paced_until
        self._paced_until = self.world.now
        await trio.sleep(ahead * pace / 1e9 if math.isfinite(pace) else 0)


def run_trio(world: World, *, seconds_per_virtual_second: float | None = None) -> None:
    """Run *world* under Trio; an exception of a slice is raised as itself, not in an exception group."""
    driver = TrioDriver(world, seconds_per_virtual_second)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        trio.run(_run_before_signals, driver)
    except BaseExceptionGroup as group:
        if group is driver.error:
            raise
        error = _first_cause(group)
        raise error from error.__cause__  # its own cause, not the group
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


async def _run_before_signals(driver: TrioDriver) -> None:
    """Run the world, then block signals: Trio closes its wake-up socket before it unregisters it with Python."""
    try:
        await driver.run()
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
