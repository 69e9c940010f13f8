"""`python -m benchmarks coverage`: which kernel functions no race of any scenario enters, for docs/coverage.md.

On each kernel with each allocator every scenario is run some times by `random`; what is called between the set-up and
the wind-up is reached in a race. The page says of every other function why not. It is a measurement of the scenarios,
so it has no goal; `tests/docs/test_coverage.py` holds the page against it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping

import attrs

from actors.kernel.context import Context
from actors.kernel.kernel_fn import FUNCTIONS, KernelFn
from actors.system.flow import Flow
from actors.system.lane import Lane
from actors.system.world import EnabledSet, World
from benchmarks.findings import SHORT
from benchmarks.pages import DOCS
from explorer.experiment import Experiment, RunOptions
from explorer.strategies import make_strategy, seed_of
from protocol.findings import Finding
from scenarios import SCENARIOS

PAGE = DOCS / "coverage.md"
SCHEDULES = 20
ROW = re.compile(
    r"^\| `(?P<functions>[^|]+)` \| (?P<kernels>[^|]+) \| (?P<allocators>[^|]+) \| (?P<why>[^|]+) \|$",
)

VARIATIONS: dict[str, tuple[Mapping[str, str], ...]] = {
    "readers-vs-rmdir": ({"kpagecgroup": "yes"}, {"cgroup": "v2"}),
}
"""Settings with which a scenario is run, too, for a part of the kernel that its defaults leave out."""


# -- what was entered -------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Entries:
    """An observer that collects the kernel functions that are called in the race."""

    names: set[str] = attrs.field(factory=set)
    _is_racing: bool = False

    def watchers(
        self, functions: Iterable[KernelFn[..., object]]
    ) -> dict[KernelFn[..., object], Callable[[Context], None]]:
        """Who is called at each entry into one of *functions*."""
        return {function: functools.partial(self.enter, function.name) for function in functions}

    def enter(self, name: str, _ctx: Context) -> None:
        """A flow calls the function."""
        if self._is_racing:
            self.names.add(name)

    def phase(self, name: str) -> None:
        """Only the race counts."""
        self._is_racing = name == "race"

    def step(self, world: World, enabled: EnabledSet, index: int, lane: Lane) -> None:
        """Nothing to do."""

    def value(self, count: int, value: int) -> None:
        """Nothing to do."""

    def moved(self, flow: Flow) -> None:
        """Nothing to do."""

    def finding(self, finding: Finding) -> None:
        """Nothing to do."""


def functions_of(kernel: str, allocator: str) -> dict[str, KernelFn[..., object]]:
    """The kernel functions that such a machine has, by name."""
    return {name: function for name, function in FUNCTIONS.items() if function.body(kernel, allocator) is not None}


def entered(scenario: str, kernel: str, settings: Mapping[str, str], schedules: int) -> set[str]:
    """The functions that are called in the race of some schedule of the scenario."""
    options = RunOptions(scenario=scenario, kernel=kernel, strategy="random", driver="stepper", settings=settings)
    experiment = Experiment.of(options)
    entries = Entries()
    watchers = entries.watchers(functions_of(kernel, settings["allocator"]).values())
    for number in range(schedules):
        stage = experiment.set_stage(make_strategy("random", seed_of(0, number)))
        stage.machine.functions = stage.machine.functions.watched(watchers)
        stage.world.observer = entries
        stage.start()
        experiment.drive(stage.world)
    return entries.names


def unreached(kernel: str, allocator: str, schedules: int = SCHEDULES) -> set[str]:
    """The functions of such a machine that no race of any scenario enters."""
    missing = set(functions_of(kernel, allocator))
    for scenario in SCENARIOS:
        for more in ({}, *VARIATIONS.get(scenario.name, ())):
            settings = {**dict(SHORT.get(scenario.name, ())), **more, "allocator": allocator}
            missing -= entered(scenario.name, kernel, settings, schedules)
    return missing
