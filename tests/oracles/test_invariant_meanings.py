"""Each invariant that can be reported has a statement of its meaning; there are no other statements."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from actors.versions.kernel_fn import functions
from explorer.report import PlainConsole, show_finding
from protocol.findings import BOOKS, INVARIANTS, ORACLES, Finding
from tests.tidy.sources import modules


def reported() -> Iterator[str]:
    """The names of invariants that the code reports."""
    for module in modules("actors"):
        for node in ast.walk(module.tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="_violated" | "violated" | "_judge"),
                    args=[ast.Constant(value=str(name)), *_],
                ):
                    yield name
                case ast.Call(args=[ast.Constant(value="invariant"), ast.Constant(value=str(name)), *_]):
                    yield name
                case ast.Tuple(elts=[ast.Constant(value="invariant"), ast.Constant(value=str(name)), _]):
                    yield name
                case ast.FunctionDef(returns=ast.Subscript() as returns) if "tuple[str, str]" in ast.unparse(returns):
                    for inner in ast.walk(node):
                        match inner:
                            case ast.Yield(value=ast.Tuple(elts=[ast.Constant(value=str(name)), _])):
                                yield name


def test_every_invariant_that_is_reported_has_a_meaning_and_no_other_has() -> None:
    assert set(reported()) == set(INVARIANTS)


def test_a_meaning_is_a_sentence() -> None:
    assert not [name for name, meaning in INVARIANTS.items() if len(meaning.split()) < 6]


def finding(kind: str, name: str) -> Finding:
    return Finding(kind, name, f"{kind} {name}: something", 1, 1, "kmem_cache_alloc", "T0")


@pytest.mark.parametrize("name", INVARIANTS)
def test_a_report_says_what_the_invariant_means(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_finding(PlainConsole(), finding("invariant", name), ())

    assert f"what has to hold: {INVARIANTS[name]}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", BOOKS)
def test_a_report_says_which_equation_of_an_obj_cgroup_does_not_hold(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_finding(PlainConsole(), finding(*name.split(":")), ())

    assert f"what has to hold: {BOOKS[name]}\n" in capsys.readouterr().out


def test_every_equation_is_one_that_the_oracles_check() -> None:
    text = "\n".join(module.text for module in modules("actors/oracles"))

    assert not [name for name in BOOKS if re.sub(" of the root| too .*", "", name.partition(":")[2]) not in text]


def test_other_findings_have_no_statement(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ORACLES:
        assert not finding(kind, "mine").meaning
    show_finding(PlainConsole(), finding("warn", "I7"), ())

    assert "what has to hold" not in capsys.readouterr().out


def test_what_a_function_is_in_a_version_is_said_without_marks_and_sections() -> None:
    summaries = [body.summary for function in functions().values() for body in function.bodies]

    assert sum(map(bool, summaries)) > 100
    assert not [text for text in summaries if "[v" in text or "[O]" in text or "[M]" in text or "(7." in text]
