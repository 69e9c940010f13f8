"""A declaration that cannot work is refused where it is made, whether a decorator makes it or the class is called."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import attrs
import pytest

from actors.oracles.own import Oracle
from explorer.experiment import Experiment, RunOptions
from protocol.errors import UsageError
from scenarios.registry import CAPTURES, MACHINE, MEMORY, Knob, Scenario, machine, scenario
from scenarios.stage import Stage
from tests.doors.conftest import Command

LONG = "a" * 201
NOT_LINES: tuple[object, ...] = (None, 5, "a\nb", "\x1b[31m", "\ud800", LONG)
"""Values that are not one line of printable text."""


def boots(stage: Stage) -> None:
    """Build the smallest scenario."""
    stage.boot()


def yields(stage: Stage) -> Iterator[None]:
    """Build nothing: a generator function runs only when it is asked for its next value."""
    stage.boot()
    yield


def make_knob(**changes: Any) -> Knob:
    """A knob that is right, but for the *changes*."""
    return Knob(**{"name": "n", "summary": "a number", "default": 1, **changes})


def make(**changes: Any) -> Scenario:
    """A scenario that is right, but for the *changes*."""
    return Scenario(**{"name": "mine", "summary": "boots", "knobs": MACHINE, "build": boots, **changes})


# -- knobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        *({"name": text} for text in (*NOT_LINES, "", "a b", "a=b")),
        *({"summary": text} for text in NOT_LINES),
        *({"choices": ("a", text), "default": "a"} for text in NOT_LINES),
        {"choices": "slub", "default": "s"},
        {"choices": 5},
        {"choices": ("a", "b"), "default": "c"},
        {"default": -1},
        {"default": 1_000_001},
        {"default": True},
        {"default": 1.0},
        {"default": "1"},
        {"least": 2},
        {"least": None},
        {"least": 0.5},
        {"most": "9"},
        {"most": 1 << 64},
        {"least": -(1 << 63) - 1},
        {"default": 10**5000, "most": 10**5000},
        {"is_slabinfo": "no"},
        {"is_list": "no"},
        {"is_list": True, "default": 1},
        {"is_list": True, "default": "2,1"},
        {"is_list": True, "choices": ("a", "b"), "default": "a,c"},
        {"is_list": True, "choices": ("a", "b,c"), "default": ""},
        {"is_seed": 1},
        *({"is_slabinfo": True, "default": name} for name in (5, None, "mine.txt", "/etc/passwd", "../registry.py")),
    ],
)
def test_a_knob_whose_values_no_user_can_give_or_no_log_hold_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"^Knob ") as caught:
        make_knob(**changes)

    assert str(caught.value).isprintable()


def test_a_capture_of_the_users_is_no_default_but_the_line_says_how_to_give_it() -> None:
    said = f"its default 'mine.txt' is not one of {', '.join(CAPTURES)}; a file of your own is given with --set "
    for declare in (
        lambda: machine(slabinfo="mine.txt"),
        lambda: Knob("slabinfo", "caches", "mine.txt", is_slabinfo=True),
    ):
        with pytest.raises(TypeError, match=f"{said}slabinfo=FILE"):
            declare()


def test_every_bundled_capture_can_be_the_default() -> None:
    bundled = {file.name for file in resources.files("scenarios").joinpath("data").iterdir()}

    assert set(CAPTURES) == {name for name in bundled if name.endswith(".txt")}
    for name in CAPTURES:
        values = make(knobs=machine(slabinfo=name)).values({})
        make(knobs=machine()).check(values, "the values")


@pytest.mark.parametrize("value", [-(1 << 63), -5, 0, (1 << 64) - 1])
def test_every_number_that_a_log_can_hold_can_be_given(value: int) -> None:
    knob = make_knob(least=-(1 << 63), most=(1 << 64) - 1)

    assert knob.parse(str(value)) == value
    assert make_knob(least=value, most=value, default=value).default == value


@pytest.mark.parametrize("text", ["-", "--1", "-6", "- 1", "-\u0663", "1-", "", "6"])
def test_what_is_no_number_of_the_knob_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="give a whole number from -5 to 5"):
        make_knob(least=-5, most=5).parse(text)


# -- the machine's knobs ----------------------------------------------------------------------------------------------


def test_an_unknown_parameter_of_the_machine_is_refused() -> None:
    with pytest.raises(TypeError, match=r"machine\(cpu=\.\.\.\): there is no such parameter; do you mean 'cpus'\?"):
        machine(cpu=4)
    with pytest.raises(TypeError, match="do you mean 'allocator'"):
        machine(alocator="slab")


@pytest.mark.parametrize(
    "defaults", [{"cpus": 0}, {"cpus": 65}, {"nodes": "1"}, {"allocator": "slob"}, {"cgroup": 2}, {"slabinfo": 5}]
)
def test_a_default_that_no_machine_has_is_refused(defaults: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^Knob {next(iter(defaults))}: its default "):
        machine(**defaults)


@pytest.mark.parametrize(
    "knob",
    [
        Knob("nodes", "none at all", 0),
        Knob("cpus", "too many", 4, least=1),
        Knob("cpus", "a word", "2", choices=("2", "4")),
        Knob("allocator", "another", "slob", choices=("slab", "slob")),
        Knob("allocator", "a number", 0),
        Knob("cgroup", "another", "v3", choices=("v3",)),
        Knob("slabinfo", "a number", 0),
        Knob("cpus", "a file", CAPTURES[0], is_slabinfo=True),
        Knob("memory", "mebibytes", 64),
        Knob("rcu", "a number", 1),
    ],
)
def test_a_knob_with_a_name_of_the_machine_has_no_value_that_machines_do_not_have(knob: Knob) -> None:
    others = tuple(one for one in MACHINE if one.name != knob.name)
    with pytest.raises(TypeError, match=f"the scenario mine has a Knob {knob.name} of .*, and machines have "):
        make(knobs=(knob, *others))


def test_such_a_knob_may_have_fewer_values() -> None:
    own = Knob("cpus", "two or more", 4, least=2, most=8), Knob("memory", "short", "short", choices=("short",))

    assert make(knobs=own).values({}) == {"cpus": 4, "memory": "short"}
    assert make(knobs=[attrs.evolve(MEMORY, default="short")]).values({}) == {"memory": "short"}


# -- scenarios and oracles --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        *({"name": text} for text in (*NOT_LINES, "")),
        *({"summary": text} for text in NOT_LINES),
        *({"build": build} for build in (None, 5, lambda: 3, yields)),
        *({"knobs": knobs} for knobs in (None, 5, (5,), (MACHINE,), (*MACHINE, *MACHINE), "cpus")),
        *({"also": also} for also in ("nested", None, (1,), ("\ud800",))),
    ],
)
def test_a_scenario_that_cannot_work_is_refused_when_it_is_made(changes: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="scenario"):
        make(**changes)


def test_the_decorator_refuses_further_names_that_are_letters() -> None:
    with pytest.raises(TypeError, match=r"the scenario mine has further names \(also\) that are not a tuple"):
        scenario("mine", "boots", *MACHINE, also="nested")(boots)  # type: ignore[arg-type]  # that is the mistake


def sees_nothing(_machine: object) -> Iterator[str]:
    """An oracle that is content."""
    yield from ()


@pytest.mark.parametrize(
    "changes",
    [
        *({"name": text} for text in (*NOT_LINES, "")),
        *({"summary": text} for text in NOT_LINES),
        {"find": None},
        {"find": 5},
        {"find": sum},
        {"find": make_knob},
        *({"when": "never"}, {"when": None}, {"when": []}),
    ],
)
def test_an_oracle_that_cannot_work_is_refused_when_it_is_made(changes: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match="oracle"):
        Oracle(**{"name": "x", "summary": "y", "find": sees_nothing, **changes})


OWN = """
from scenarios.api import {names}


{declaration}
"""


@pytest.mark.parametrize(
    ("names", "declaration", "said"),
    [
        ("machine", "machine(cpu=4)", "machine(cpu=...): there is no such parameter; do you mean 'cpus'? There are "),
        ("Knob", "Knob('n', '\\ud800', 1)", "Knob n: its name is an identifier, and its summary one line of "),
        ("machine", "machine(slabinfo='none.txt')", "Knob slabinfo: its default 'none.txt' is not one of "),
        ("MACHINE, Scenario", "Scenario('m', 'b', MACHINE, lambda: 3)", "the scenario m is called with 1 argument: "),
        ("Scenario", "Scenario('m', 'b', None, lambda stage: 3)", "the scenario m is a function that does not yield"),
    ],
)
def test_a_wrong_declaration_of_a_file_is_one_line(slabrace: Command, names: str, declaration: str, said: str) -> None:
    Path("wrong.py").write_text(OWN.format(names=names, declaration=declaration))
    code, _, err = slabrace("run", "wrong.py", "--no-log")

    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"slabrace: wrong.py, line 5: TypeError: {said}")


@pytest.mark.parametrize("file", ["a\nb.py", f"{'a' * 240}.py"])
def test_a_file_may_have_a_name_that_a_scenario_may_not(slabrace: Command, file: str) -> None:
    Path(file).write_text(
        "from scenarios.api import MACHINE, Scenario\n"
        "mine = Scenario('mine', 'boots', MACHINE, lambda stage: stage.boot() and None)\n"
    )
    code, out, err = slabrace("run", file, "--no-log", "--json")

    assert (code, err) == (0, "")
    assert json.loads(out)["scenario"] == f"{file}:mine"
    assert Experiment.of(RunOptions(scenario=file)).scenario.name == f"{file}:mine"
