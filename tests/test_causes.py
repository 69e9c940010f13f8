"""The study of causes: its entries name existing kernels and scenarios, and its page shows the recorded answers."""

from __future__ import annotations

import attrs
import pytest

from benchmarks.__main__ import main
from benchmarks.causes import CAUSES, Answer, page
from scenarios import find_scenario


def test_there_are_enough_known_causes() -> None:
    assert len({entry.name for entry in CAUSES}) == len(CAUSES) >= 20
    assert len({entry.kernel.profile for entry in CAUSES}) >= 9
    for entry in CAUSES:
        assert find_scenario(entry.scenario).name == entry.scenario


def test_the_page_counts_the_answers() -> None:
    right = Answer(
        "a on v1", 0, "nested", "one is first", "BUGS.md", "leak:x:", "`f: op` before `g: op`", "", True, 1, 1.0
    )
    wrong = Answer("b on v1", 0, "nested", "one is first", "BUGS.md", "leak:x:", "no pair", "", False, 0, 1.0)
    other = attrs.evolve(right, seed=1, shown="`h: op` before `g: op`", is_known=False, place=2)
    text = "\n".join(page([right, other, wrong]))

    assert "In 1 of 3 explanations the first pair shown is the known pair" in text
    assert "| a on v1 | nested | one is first | BUGS.md | `f: op` before `g: op` | yes, 2 |" in text
    assert "| b on v1 | nested | one is first | BUGS.md | no pair | no |" in text


def test_a_known_cause_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["causes", "--causes", "alloc-without-cache-ref", "--seeds", "2", "--no-page"]) == 0
    assert "In 2 of 2 explanations the first pair shown is the known pair" in capsys.readouterr().out


def test_an_unknown_cause_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["causes", "--causes", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
