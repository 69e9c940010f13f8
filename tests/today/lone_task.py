"""One task on a machine of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from actors.api import Context
from actors.system.stepper import run_stepper
from actors.system.world import World
from explorer.search.registry import make_strategy
from scenarios.registry import MACHINE, default_value
from scenarios.stage import Stage, small_cache

Body = Callable[[Context], Awaitable[None]]


def alone(
    body: Body,
    *,
    cpus: int = 1,
    nodes: int = 1,
    check: str = "off",
    kernel: str = "7.2",
    cgroup: str = "v2",
    caches: tuple[str, ...] = ("alpha",),
    expected: tuple[str, ...] = (),
) -> World:
    """Run *body* as a task of the root on CPU 0; it leaves the findings that are *expected*, and no other."""
    settings = {knob.name: default_value(knob) for knob in MACHINE}
    settings |= {"cpus": cpus, "nodes": nodes, "cgroup": cgroup}
    world = World(make_strategy("roundrobin", 0))
    stage = Stage(world, kernel, settings, check=check)
    stage.has_session = False
    stage.boot(caches=[small_cache(name) for name in caches])
    stage.set_up(body)
    stage.start()
    run_stepper(world)
    assert tuple(world.findings) == expected, [*world.findings]
    return world
