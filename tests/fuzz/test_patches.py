"""Patch files of every shape are refused in one line that names the file, or applied to the kernel."""

from __future__ import annotations

import pytest

from tests.fuzz.bench import Bench, Ending, check_ending
from tests.fuzz.conftest import attempt
from tests.fuzz.patches import RIGHT, File, declarations, values
from tests.fuzz.texts import changed
from tests.helpers import TINY_CAPTURE

RUN = ("run", "canary", "--json", "--no-log", "--set", "rounds=1", "--set", "slabinfo=tiny", "--patch", "p.py")
"""A run in which no patched function is called, so that only the declaration matters."""


def run_with(bench: Bench, text: bytes) -> Ending:
    bench.put("tiny", TINY_CAPTURE.encode())
    bench.put("p.py", text)
    ending = bench.run(*RUN)
    check_ending(ending)
    assert ending.code != 2 or "p.py" in ending.err, "it says which file"
    return ending


@pytest.mark.parametrize("inputs", [40, pytest.param(800, marks=pytest.mark.slow)])
def test_a_declaration_fits_or_is_refused(inputs: int, bench: Bench) -> None:
    def check_one(file: File) -> None:
        ending = run_with(bench, file.text)
        expected = {True: {1}, False: {2}, None: {1, 2}}[file.is_right]
        assert ending.code in expected, f"{file}: {ending}"

    attempt(inputs, check_one, declarations() | values())


@pytest.mark.parametrize("inputs", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_a_damaged_file_is_refused_or_laid_over_the_kernel(inputs: int, bench: Bench) -> None:
    def check_one(text: bytes) -> None:
        assert run_with(bench, text).code in (1, 2)

    attempt(
        inputs, check_one, changed(RIGHT.encode(), ("(", ")", ":", "yield", "await", "def", "None", "\t", "\\", '"""'))
    )
