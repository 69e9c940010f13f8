"""Runs that stop at a given step, and the settings that keep them small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from actors.system.flow import Flow
from actors.system.recorder import Recorder
from actors.system.stepper import run_stepper
from actors.system.strategy import Strategy
from actors.system.world import World
from actors.versions.patching import Patch
from explorer.search.registry import make_strategy
from protocol.formats.slabinfo import parse_slabinfo, render_slabinfo
from scenarios import find_scenario
from scenarios.registry import DEFAULT_CAPTURE, MACHINE, SLABINFO, default_value
from scenarios.stage import Stage

DATA = Path(__file__).parents[1] / "data"

SMALL = {
    "generations": "2",
    "files": "2",
    "every": "1",
    "cgroups": "2",
    "objects": "4",
    "depth": "2",
    "rounds": "8",
    "reads": "1",
    "seconds": "4",
}
"""Parameter values that make any scenario short."""

FEW_CACHES = render_slabinfo(
    row
    for row in parse_slabinfo(default_value(SLABINFO), source=DEFAULT_CAPTURE)
    if row.name in ("filp", "dentry", "task_struct", "sighand_cache") or row.name.endswith("inode_cache")
)
"""The rows of the shipped capture that scenarios need, and few others: a machine that is quickly checked as a whole."""


@attrs.define(repr=False)
class Stand:
    """A run of a scenario, stopped at the requested step or at its end."""

    stage: Stage
    recorder: Recorder

    @property
    def world(self) -> World:
        return self.stage.world


Check = Callable[[Stage, Flow], None]


def play(
    name: str,
    kernel: str = "5.3",
    *,
    seed: int = 0,
    until: int | None = None,
    settings: Mapping[str, object] | None = None,
    strategy: Strategy | str = "random",
    check: Check | None = None,
    caches: str | None = None,
    patches: tuple[Patch, ...] = (),
) -> Stand:
    """Run a scenario with small parameters up to *until* steps; call *check* after each. *caches*: a capture's text."""
    scenario = find_scenario(name)
    small = {knob.name: SMALL[knob.name] for knob in scenario.knobs if knob.name in SMALL}
    chosen = small | {key: str(value) for key, value in (settings or {}).items() if has_knob(name, key)}
    chooser = make_strategy(strategy, seed) if isinstance(strategy, str) else strategy
    world = World(chooser)
    recorder = Recorder()
    world.observers = (recorder,)
    knobs = scenario.values(chosen)
    knobs |= {"slabinfo": caches} if caches is not None else {}
    stage = Stage(world, kernel, knobs, patches=patches)
    scenario.build(stage)
    if check is not None:
        world.checks.append(lambda flow: check(stage, flow))
    if until is not None:
        world.checks.append(lambda _flow: world.stop("until") if world.steps >= until else None)
    stage.start()
    run_stepper(world)
    return Stand(stage, recorder)


def perform(
    build: Callable[[Stage], None],
    kernel: str = "5.3",
    *,
    strategy: Strategy | None = None,
    **machine: object,
) -> Stand:
    """Run the stage that *build* sets on a machine with the parameters *machine*, and defaults for the rest."""
    knobs = {knob.name: machine.get(knob.name, default_value(knob)) for knob in MACHINE}
    world = World(strategy or make_strategy("random", 0))
    recorder = Recorder()
    world.observers = (recorder,)
    stage = Stage(world, kernel, knobs)
    build(stage)
    stage.start()
    run_stepper(world)
    return Stand(stage, recorder)


def has_knob(scenario: str, name: str) -> bool:
    return any(knob.name == name for knob in find_scenario(scenario).knobs)


def find(condition: Callable[[Stage], bool], name: str, kernel: str = "5.3", **options: Any) -> Stand:
    """Run a scenario until *condition* holds, with the first seed for which it holds at any step."""
    for seed in range(50):

        def stop(stage: Stage, _flow: Flow) -> None:
            if condition(stage):
                stage.world.stop("found")

        stand = play(name, kernel, seed=seed, check=stop, **options)
        if stand.world.stopped == "found":
            return stand
    msg = f"{name} on {kernel} never gets there"
    raise AssertionError(msg)
