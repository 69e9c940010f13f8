"""The functions that schedules enter, whether or not they make a step there.

The coverage of a search counts functions that make a step in the race. A patch may change a function that makes none,
or one that only the sequential set-up calls, so entries are counted here.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from actors.versions.kernel_fn import functions

if TYPE_CHECKING:
    from actors.machine.context import Context
    from actors.system.strategy import Strategy
    from explorer.experiment import Experiment


def entered(experiment: Experiment, strategy: Strategy, names: Iterable[str]) -> set[str]:
    """Those of the functions *names* that one schedule enters, its set-up included."""
    found: set[str] = set()
    stage = experiment.set_stage(strategy)
    table = stage.machine.functions
    watched = {functions()[name]: partial(_note, found, name) for name in names if table.bodies(functions()[name])}
    stage.machine.functions = table.watched(watched)
    stage.start()
    experiment.drive(stage.world)
    return found


def _note(found: set[str], name: str, _ctx: Context) -> None:
    found.add(name)
