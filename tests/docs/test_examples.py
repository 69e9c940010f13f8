"""The test files in the documentation are run unchanged."""

from __future__ import annotations

import re

import pytest

from tests.plugin.test_explore import PLUGIN
from tests.tidy.sources import ROOT

BLOCK = re.compile(r"^```python\n# (test_\w+\.py)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

EXAMPLES = [
    pytest.param(name, text, id=f"{page.name}: {name}")
    for page in sorted((ROOT / "docs").rglob("*.md"))
    for name, text in BLOCK.findall(page.read_text(encoding="utf-8"))
]


def test_there_are_examples() -> None:
    assert {param.values[0] for param in EXAMPLES} >= {
        "test_two_frees.py",
        "test_my_change.py",
        "test_beside_trio.py",
        "test_one_run.py",
    }


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_an_example_passes(pytester: pytest.Pytester, name: str, text: str) -> None:
    pytester.makepyfile(**{name.removesuffix(".py"): text})
    outcomes = pytester.runpytest_inprocess(*PLUGIN).parseoutcomes()

    assert set(outcomes) <= {"passed", "warning", "warnings"}
    assert outcomes["passed"] >= text.count("def test_")
