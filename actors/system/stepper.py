"""The stepper: drives actors and flows directly, one after the other, for speed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.system.actor import Actor
from actors.system.flow import Flow

if TYPE_CHECKING:
    from actors.system.world import World


def run_stepper(world: World) -> None:
    """Run *world* to its end."""
    while (lane := world.next_lane()) is not None:
        if isinstance(lane, Actor):
            lane.resume(world.take_mail(lane))
        elif isinstance(lane, Flow):
            step(world, lane)


def step(world: World, flow: Flow) -> None:
    """Deliver the pending request of *flow* to the owner, then run the flow on with the reply."""
    world.current = flow
    request = flow.request
    if request.actor is not None:
        request.actor.resume(request)
        if world.stopped is not None:
            return
    flow.resume(None)
    world.finish_step(flow)
