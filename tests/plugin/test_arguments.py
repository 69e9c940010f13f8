"""Arguments of `explored` and of the fixture `explore` that are no arguments: one line each, before anything runs."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from explorer.arguments import ELEMENTS, RULES, check_arguments
from explorer.assertions import explored
from protocol.errors import UsageError
from tests.helpers import make_scenario, quiet

WHOLE = "give a whole number, {} and below 2**64"
LIST, NAMED = "give a list", "give a dictionary from names to values"
KNOB = "give a whole number of at most 64 bits, a text, or a Path"
PROBABILITY = "give a probability from 0 to 1"
LINE = "give one line of text, in quotes"
HUGE = 10**5000
"""A number of so many digits that Python refuses to print it."""

WRONG: list[tuple[str, Any, str]] = [
    ("scenario", quiet, "give a name, FILE.py:NAME, or a function that @scenario declares"),
    ("scenario", None, "=None: give a name, FILE.py:NAME"),
    ("kernel", 5.3, f"=5.3: {LINE}"),
    ("kernel", "5.3\n", LINE),
    ("kernel", ["5.3"], LINE),
    ("strategy", None, "=None: give a strategy's name, or FILE.py:NAME, in quotes"),
    ("strategy", 5, "=5: give a strategy's name"),
    *(("budget", value, WHOLE.format("one or more")) for value in ("x", 1.5, True, None, 0, -1, 1 << 64)),
    *(("workers", value, WHOLE.format("one or more")) for value in ("2", 1.0, True, None, 0, -1, 1 << 64)),
    *(("seed", value, WHOLE.format("zero or more")) for value in ("a", 1.5, True, None, -1, 1 << 64)),
    ("seed", HUGE, "seed=<int>: give a whole number"),
    ("settings", [1], f"=[1]: {NAMED}"),
    ("settings", {5: 1}, f"={{5: 1}}: {NAMED}"),
    ("settings", {"rounds": 1.5}, f"settings['rounds']=1.5: {KNOB}"),
    ("settings", {"rounds": 1, "cpus": None}, f"settings['cpus']=None: {KNOB}"),
    ("settings", {"rounds": True}, KNOB),
    ("settings", {"rounds": HUGE}, f"settings['rounds']=<int>: {KNOB}"),
    ("faults", ["page"], NAMED),
    *(("faults", {"page": value}, f"faults['page']={value!r}: {PROBABILITY}") for value in ("x", 2, -0.1, True, None)),
    ("faults", {"page": float("nan")}, f"faults['page']=nan: {PROBABILITY}"),
    ("faults", {"page": 0.5, "work": HUGE}, f"faults['work']=<int>: {PROBABILITY}"),
    *((name, "x.py", f"{name}='x.py': {LIST}") for name in ("patches", "oracles", "without")),
    *((name, None, LIST) for name in ("patches", "oracles", "without")),
    *((name, Path("x.py"), LIST) for name in ("patches", "oracles", "without")),
    *((name, {"x.py"}, LIST) for name in ("patches", "oracles", "without")),
    ("patches", ["x.py", 5], "patches[1]=5: give a text, in quotes, or a Path"),
    ("oracles", (b"x.py",), "oracles[0]=b'x.py': give a text, in quotes, or a Path"),
    ("without", [Path("x")], LINE),
    ("check", 3, LINE),
    ("expect", 5, f"=5: {LINE}, or None"),
    ("expect", "bug\n", f"='bug\\n': {LINE}, or None"),
    ("must_reach", "no", "='no': give True or False"),
    ("must_exhaust", 1, "=1: give True or False"),
    ("logs", 5, "=5: give a text, in quotes, a Path, or None"),
]


def test_every_argument_has_a_rule() -> None:
    assert list(RULES) == list(inspect.signature(explored).parameters)
    assert set(ELEMENTS) <= set(RULES)


@pytest.mark.parametrize(
    ("name", "value", "said"), WRONG, ids=[f"{name}-{at}" for at, (name, _, _) in enumerate(WRONG)]
)
def test_an_argument_that_is_none_is_refused_before_anything_runs(name: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        explored(**{"scenario": "canary", name: value})

    told = str(caught.value)
    assert told.startswith(name)
    assert said in told
    assert told.isprintable()


class Wrapped:
    """A value whose text has several lines, as that of an array."""

    def __repr__(self) -> str:
        return "[1\n 2]"


def test_the_text_of_a_value_stays_in_the_line() -> None:
    with pytest.raises(UsageError, match=r"^budget=\[1\\n 2\]: give a whole number"):
        check_arguments({"budget": Wrapped()})
    with pytest.raises(UsageError, match=r"^settings\['a{39}\]=None: "):
        check_arguments({"settings": {"a" * 100: None}})


@pytest.mark.parametrize(
    "options",
    [
        {"settings": {"rounds": "1", "cpus": 2}},
        {"settings": {"slabinfo": Path("scenarios/data/slabinfo-32cpu.txt").absolute()}},
        {"faults": {"page": 0, "work": 1.0, "percpu": 0.5}},
        {"patches": [], "oracles": (), "without": ()},
        {"patches": [Path("patches/x.py"), "x.py"], "oracles": ("x.py", Path("y.py"))},
        {"logs": "logs"},
        {"logs": Path("logs")},
        {"expect": ""},
        {"budget": 1, "workers": 1, "seed": (1 << 64) - 1},
        {"scenario": Path("mine.py")},
        {"scenario": make_scenario("mine", quiet)},
    ],
)
def test_what_users_give_stays_allowed(options: dict[str, Any]) -> None:
    check_arguments(options)


def test_logs_may_be_named_by_a_text(tmp_path: Path) -> None:
    answer = explored("canary", settings={"rounds": 1}, expect="bug", logs=str(tmp_path))

    assert answer.findings
    assert list(tmp_path.glob("*.log"))
