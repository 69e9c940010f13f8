"""Errors in the user's scenarios, in any function of them, are reported with their line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.machine.context import Context
from explorer.assertions import explored
from explorer.experiment import DRIVERS
from protocol.errors import UsageError
from scenarios.registry import MACHINE, scenario
from scenarios.stage import Stage
from tests.conftest import Command, check_usage_error
from tests.helpers import install, make_cell
from tests.patches.conftest import line_of

STUCK = "it has not come back for 0.2 s: a step has to end; does it loop for ever?"


def leave() -> bool:
    """Try to end the process."""
    sys.exit(0)  # leave


def interrupt() -> bool:
    """Raise KeyboardInterrupt, as Ctrl-C would."""
    raise KeyboardInterrupt  # interrupt


def loop() -> bool:
    """Loop for ever."""
    number = 1
    while number:  # loop
        number = -number
    return True


def in_build(stage: Stage, wrong: Callable[[], bool]) -> None:
    stage.boot()
    wrong()


def in_a_task(stage: Stage, wrong: Callable[[], bool]) -> None:
    cell = make_cell(stage.boot().world)

    async def body(ctx: Context) -> None:
        await ctx.ask(cell.add)
        wrong()

    stage.task("a", body)


def in_always(stage: Stage, wrong: Callable[[], bool]) -> None:
    stage.boot()
    stage.always("it holds", wrong)


def in_sometimes(stage: Stage, wrong: Callable[[], bool]) -> None:
    stage.boot()
    stage.sometimes("it holds", wrong)


def in_eventually(stage: Stage, wrong: Callable[[], bool]) -> None:
    stage.boot()
    stage.eventually("it holds", wrong)


WRONG = [(leave, "SystemExit: 0"), (interrupt, "KeyboardInterrupt")]
PLACES = [in_build, in_a_task, in_always, in_sometimes, in_eventually]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("where", "wrong", "said"),
    [*((where, *wrong) for where in PLACES for wrong in WRONG), (in_build, loop, STUCK), (in_always, loop, STUCK)],
)
def test_a_scenario_that_is_wrong_is_named_with_its_line(
    slabrace: Command,
    monkeypatch: pytest.MonkeyPatch,
    where: Callable[[Stage, Callable[[], bool]], None],
    wrong: Callable[[], bool],
    said: str,
) -> None:
    @scenario("mine", "a scenario of the user's", *MACHINE)
    def mine(stage: Stage) -> None:
        where(stage, wrong)

    line = f"{__file__}, line {line_of(Path(__file__), f'# {wrong.__name__}')}, in {wrong.__name__}: {said}"
    with pytest.raises(UsageError) as raised:
        explored(mine, budget=1)
    assert str(raised.value) == line

    install(monkeypatch, mine)
    for driver in DRIVERS:
        assert check_usage_error(slabrace("run", "mine", "--driver", driver, "--json")) == f"slabrace: {line}"
