"""Untrusted regression files are refused in one line, or run as they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz.bench import Bench, check_ending
from tests.fuzz.conftest import attempt
from tests.fuzz.kept import KEPT, Fields, dump, fits, texts_of
from tests.fuzz.texts import changed

CHECKED = ("keep", "--check", "kept")
EXPLORED = ("explore", "canary", "--set", "rounds=1", "--kept", "kept", "--budget", "1", "--no-log", "--workers", "1")
READERS = (*(CHECKED,) * 5, (*CHECKED, "--json"), (*EXPLORED, "--json"))


@pytest.mark.parametrize("reader", [CHECKED, EXPLORED], ids=" ".join)
def test_a_good_file_is_run(reader: tuple[str, ...], fields: Fields, bench: Bench) -> None:
    """Without this test the others could pass vacuously."""
    bench.put(KEPT, dump(fields))
    ending = bench.run(*reader)

    check_ending(ending)
    assert ending.code == (0 if reader is CHECKED else 1), ending
    assert fits(fields)


@pytest.mark.parametrize("inputs", [40, pytest.param(1_200, marks=pytest.mark.slow)])
def test_a_field_with_something_wrong_is_refused(inputs: int, fields: Fields, bench: Bench) -> None:
    def check_one(reader: tuple[str, ...], file: tuple[Fields, bytes]) -> None:
        bench.put(KEPT, file[1])
        ending = bench.run(*reader)
        check_ending(ending)
        assert ending.code == 2 or fits(file[0]), f"a field does not fit, and it is run: {ending}"

    attempt(inputs, check_one, st.sampled_from(READERS), texts_of(fields))


@pytest.mark.parametrize("inputs", [20, pytest.param(600, marks=pytest.mark.slow)])
def test_a_damaged_file_is_refused_or_run(inputs: int, fields: Fields, bench: Bench) -> None:
    def check_one(data: bytes) -> None:
        bench.put(KEPT, data)
        check_ending(bench.run(*CHECKED))

    attempt(
        inputs, check_one, changed(dump(fields), ("NaN", "null", "[", "]", "{", '"', ",", "-1,", "1e999", "9" * 5_000))
    )


def test_a_knob_of_a_file_is_a_value_and_never_a_path(fields: Fields, bench: Bench) -> None:
    """On the command line slabinfo=FILE reads FILE; in a regression file the value is the text itself."""
    capture = bench.put("capture", Path(__file__).read_bytes())
    bench.put(KEPT, dump({**fields, "knobs": {"slabinfo": str(capture)}}))
    ending = bench.run(*CHECKED)

    assert ending.code == 2
    assert "line 1: expected 'slabinfo - version: 2.1', found " in ending.err
    assert str(capture)[:20] in ending.err, "that is what the capture is said to be"
