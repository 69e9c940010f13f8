"""The Trio driver: every actor and every flow is a Trio task.

The tasks pass a baton. A parked task is woken by `trio.lowlevel.reschedule` with the one thing it has to do (a
*turn*); when its slice is over it hands the baton on, and parks. So exactly one task can run at any time,
Trio's own order cannot matter, and a message costs one task switch. One step of a flow is:

    holder of the baton: choose the next lane; its request goes to the owner's task
    owner's task:        handles the request; the baton goes to the flow's task
    flow's task:         runs on to its next await, and is now the holder of the baton

There is no central loop and no queue in between: whoever holds the baton makes the world's choice (`_hand_on`).
A task is started when it is first needed, and ends with its actor (if that is asked later, a use after free, it
gets another one, to report that). Cancelling the nursery (an outer cancel scope, a crash) closes every coroutine at
its await. Each `BREATH` steps the holder lets Trio look at deadlines and signals.
"""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING

import attrs
import outcome
import trio

from actors.system.actor import Actor, Request
from actors.system.flow import Flow

if TYPE_CHECKING:
    from actors.system.lane import Lane
    from actors.system.world import World

BREATH = 1000
"""Steps between two checkpoints: cancellation and deadlines are honoured within some tens of milliseconds."""

NOTHING = object()
"""No turn: whoever has just stepped does not step next."""

SIGNALS = (signal.SIGALRM, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

END = object()
"""The turn that ends a task: its actor has retired."""


@attrs.define(eq=False)
class TrioDriver:
    """Runs one world. `seconds_per_virtual_second` slows it down to watch it; None runs as fast as it can.

    `error` is what has gone wrong in a slice.
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

        What goes wrong in a slice leaves from here, as itself. Trio is not shown it, for it would take some of that for
        its own: a Cancelled for the end of its scope, a KeyboardInterrupt for Ctrl-C.
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
        """End all flows where they stand; what one raises because of that matters only if nothing else went wrong."""
        for flow in list(self.world.flows):
            try:
                flow.close()
            except BaseException as error:  # noqa: BLE001 -- `run` raises it
                self.error = self.error or error

    # -- the baton ----------------------------------------------------------------------------------------------------

    def _choose(self) -> None:
        """Make the world's next choice, and give the baton to whoever has the first turn in that step."""
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
        """The slice of *lane* is over: finish the step, or give the flow that asked its reply."""
        if isinstance(turn, Request) and turn.flow is not lane and self.world.stopped is None:
            if turn.actor is not None and turn.actor.check is not None:
                turn.actor.check()
            self._give(turn.flow, None)
            return
        if isinstance(lane, Flow):
            self.world.finish_step(lane)
        self._choose()

    def _give(self, lane: Lane, turn: object) -> None:
        if self._is_cancelled:
            return  # nobody is there any more to take the baton
        task = self._tasks.get(lane)
        if task is None:
            self._nursery.start_soon(self._live, lane, turn, name=lane.name)
        elif task is trio.lowlevel.current_task():
            self._again = turn
        else:
            trio.lowlevel.reschedule(task, outcome.Value(turn))

    async def _live(self, lane: Lane, turn: object) -> None:
        """The life of one task: take a turn, run a slice, hand the baton on, park."""
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
        """The run is over: nobody is to step any more."""
        self.error = error
        self._is_cancelled = True
        self._over.set()

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._is_cancelled = True
        return trio.lowlevel.Abort.SUCCEEDED

    def _retire(self, actor: Actor) -> None:
        """End the task of *actor*, once it is its turn; who asks for freed state from now on is served by another."""
        task = self._tasks.get(actor)
        if task is not None and task is not trio.lowlevel.current_task() and not self._is_cancelled:
            del self._tasks[actor]
            trio.lowlevel.reschedule(task, outcome.Value(END))

    async def _breathe(self) -> None:
        """Let Trio see to deadlines and signals; wait for the wall clock if the run is paced."""
        pace = self.seconds_per_virtual_second or 0.0
        ahead = self.world.now - self._paced_until
        self._paced_until = self.world.now
        await trio.sleep(ahead * pace / 1e9 if math.isfinite(pace) else 0)


def run_trio(world: World, *, seconds_per_virtual_second: float | None = None) -> None:
    """Run *world* under Trio; an error of ours leaves as itself, not wrapped in a group."""
    driver = TrioDriver(world, seconds_per_virtual_second)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        trio.run(_run_before_signals, driver)
    except BaseExceptionGroup as group:
        if group is driver.error:
            raise
        error = _first_cause(group)
        raise error from error.__cause__  # it came of that, not of the group
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


async def _run_before_signals(driver: TrioDriver) -> None:
    """Run it, and let signals wait from then on: Trio closes the socket that Python tells of them before it says so."""
    try:
        await driver.run()
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
