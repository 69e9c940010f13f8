"""Untrusted logs: a reader refuses a log, reads it up to its damage, or does what the log says."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from tests.fuzz.bench import Bench, Ending, check_ending
from tests.fuzz.conftest import attempt
from tests.fuzz.logs import Bad, Good, bad_logs

READERS: tuple[tuple[str, ...], ...] = (
    ("log",),
    ("log", "--json"),
    ("log", "--json", "--first", "20", "--last", "30"),
    ("replay", "--json"),
    ("replay", "--driver", "stepper"),
    ("replay", "--until", "30"),
    ("slabinfo",),
    ("slabinfo", "--json", "--at", "40"),
    ("shrink", "--budget", "3", "--out", "out.short.log"),
    ("keep", "--dir", "out"),
    ("explain", "--json"),
    ("explore", "--from", "--at", "40", "--budget", "1", "--no-log", "--workers", "1"),
)
"""Every command that reads a log; the log's path is the first argument, or follows the first option."""

SLOW = ("explain", "explore")
"""Commands that are slow on longer logs; they get the shortest one."""


def line(reader: tuple[str, ...], log: str) -> list[str]:
    """The arguments of a command that reads *log*."""
    name, *options = reader
    return [name, "--from", log, *options[1:]] if name == "explore" else [name, log, *options]


def passes(reader: tuple[str, ...], bad: Bad, ending: Ending) -> bool:
    """Whether the ending is permitted: a reader must not accept a wrong log without a message."""
    if ending.code in (2, 4) or ending.err:
        return True
    if reader in READERS[:2]:
        return not bad.is_shown
    if reader in READERS[3:5]:
        return bad.digest != "" and bad.digest in ending.out
    return True


@pytest.mark.parametrize("inputs", [60, pytest.param(2_500, marks=pytest.mark.slow)])
def test_a_log_with_something_wrong_is_refused_or_read_to_its_damage(
    inputs: int, goods: tuple[Good, ...], bench: Bench
) -> None:
    def check_one(reader: tuple[str, ...], bad: Bad) -> None:
        if reader[0] in SLOW and bad.of is not goods[0]:
            reader = READERS[3]
        bench.put("x.log", bad.data)
        ending = bench.run(*line(reader, "x.log"))
        check_ending(ending, ["out"])
        assert passes(reader, bad, ending), f"nothing is said of {bad.how}: {ending}"

    attempt(inputs, check_one, st.sampled_from(READERS), bad_logs(goods))


@pytest.mark.parametrize("inputs", [10, pytest.param(500, marks=pytest.mark.slow)])
def test_a_log_with_something_wrong_is_not_compared(inputs: int, goods: tuple[Good, ...], bench: Bench) -> None:
    bench.put("good.log", goods[0].data)

    def check_one(bad: Bad, pair: tuple[str, str]) -> None:
        bench.put("bad.log", bad.data)
        ending = bench.run("compare", *pair)
        check_ending(ending)
        assert ending.code == 2 or bad.digest, f"{bad.how} is compared: {ending}"

    pairs = st.permutations(["good.log", "bad.log"]).map(tuple)
    attempt(inputs, check_one, bad_logs(goods[:1] + goods[2:]), pairs)


def test_only_logs_of_one_scenario_are_compared(goods: tuple[Good, ...], bench: Bench) -> None:
    for name, good in (("one.log", goods[0]), ("same.log", goods[0]), ("other.log", goods[2])):
        bench.put(name, good.data)

    assert bench.run("compare", "one.log", "same.log").code == 0
    for wrong in (["one.log", "other.log"], ["one.log"], []):
        ending = bench.run("compare", *wrong)
        check_ending(ending)
        assert ending.code == 2


@pytest.mark.parametrize("reader", READERS, ids=" ".join)
def test_a_good_log_is_read(reader: tuple[str, ...], goods: tuple[Good, ...], bench: Bench) -> None:
    """Without this test the others could pass vacuously."""
    bench.put("x.log", goods[0].data)
    ending = bench.run(*line(reader, "x.log"))

    check_ending(ending, ["out"])
    assert ending.code in (0, 1), ending
    assert not ending.err or ending.err.startswith("found in schedule ")
