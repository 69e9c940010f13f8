"""No kernel function accesses an object between the begin of a section and its first step, where it has no effect."""

from __future__ import annotations

import pytest

from actors.machine.lockless import View
from actors.system.actor import Shared
from actors.system.cpu import Cpu
from actors.system.flow import Flow
from explorer.experiment import Experiment, RunOptions
from explorer.selftest import StandingWalk
from tests.helpers import each_scenario, small_settings
from tests.selftest.test_declared_writes import KEPT_BY_THE_SEAM, NO_STATE


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str, str]]:
    """The early accesses: the function of the step before, the class and the attribute."""
    seen: set[tuple[str, str, str]] = set()

    def note(flow: Flow | None, thing: Shared, name: str) -> None:
        if flow is not None and flow.is_entering and (type(thing).__name__, name) not in NO_STATE:
            seen.add((flow.request.code.co_name, type(thing).__name__, name))

    use, use_part = Flow.use, Flow.use_part

    def watched_use(flow: Flow, thing: Shared) -> None:
        note(flow, thing, "use")
        use(flow, thing)

    def watched_use_part(flow: Flow, thing: Shared) -> None:
        note(flow, thing, "use_part")
        use_part(flow, thing)

    def set_attribute(thing: Shared, name: str, value: object) -> None:
        if (
            name not in KEPT_BY_THE_SEAM
            and not isinstance(thing, Cpu | View)  # mail changes a view, in a step that is no flow's
            and hasattr(thing, "actor")
            and hasattr(thing, name)
        ):
            note(thing.actor.world.current, thing, name)
        object.__setattr__(thing, name, value)

    monkeypatch.setattr(Flow, "use", watched_use)
    monkeypatch.setattr(Flow, "use_part", watched_use_part)
    monkeypatch.setattr(Shared, "__setattr__", set_attribute)
    return seen


@each_scenario
@pytest.mark.parametrize(("kernel", "allocator"), [("original", "slab"), ("5.3", "slub")])
def test_nothing_is_accessed_before_the_first_step_of_a_section(
    early: set[tuple[str, str, str]], name: str, kernel: str, allocator: str
) -> None:
    options = RunOptions(
        scenario=name, kernel=kernel, driver="stepper", settings={**small_settings(name), "allocator": allocator}
    )
    experiment = Experiment.of(options)
    stage = experiment.set_stage(StandingWalk(1))
    stage.start()
    experiment.drive(stage.world)

    assert not early
