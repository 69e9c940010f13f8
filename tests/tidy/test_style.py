"""Rules of style that a machine can check; each message says what to do."""

from __future__ import annotations

import ast
import re

import pytest

from tests.tidy.sources import SHIPPED, Module, modules

REGISTRIES = {
    "actors/fixes.py": {"FIXES"},
    "actors/versions/kernel_fn.py": {"_FUNCTIONS"},
    "actors/versions/profiles.py": {"ALLOCATORS"},
    "actors/system/lane.py": {"RESUMERS"},
}
"""Module-level tables of actors/ that are filled during the imports, and never afterwards."""

MUTABLE_CALLS = frozenset(
    {"dict", "list", "set", "deque", "defaultdict", "Counter", "OrderedDict", "count", "cycle", "bytearray"}
)


# -- state ------------------------------------------------------------------------------------------------------------


def is_mutable(value: ast.expr | None) -> bool:
    """Whether an expression makes something that can change."""
    if isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp | ast.GeneratorExp):
        return True
    if isinstance(value, ast.Call):
        name = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        return name in MUTABLE_CALLS
    return False


def module_level_state(module: Module) -> list[tuple[int, str]]:
    """Names that are bound to something mutable at module level or as a class attribute."""
    bodies = [module.tree.body, *(node.body for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef))]
    found = []
    for statement in (statement for body in bodies for statement in body):
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        value = getattr(statement, "value", None)
        if targets and is_mutable(value):
            found += [(statement.lineno, target.id) for target in targets if isinstance(target, ast.Name)]
    return found


def test_no_state_lives_outside_a_world() -> None:
    wrong = [
        f"{module.name}:{line}: {name} is mutable and global; let it hang off the World or the Machine, make it a "
        "frozenset or a tuple, or declare it in REGISTRIES of this test if only imports fill it"
        for module in modules("actors")
        for line, name in module_level_state(module)
        if name not in REGISTRIES.get(module.name, set())
    ]

    assert not wrong, "\n".join(wrong)


def test_nothing_is_rebound_globally() -> None:
    wrong = [
        f"{module.name}:{node.lineno}: `global {', '.join(node.names)}`: let it hang off the World"
        for module in modules(*SHIPPED)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Global)
    ]

    assert not wrong, "\n".join(wrong)


def test_declared_registries_exist() -> None:
    for name, names in REGISTRIES.items():
        (module,) = (module for module in modules("actors") if module.name == name)

        assert names <= {found for _, found in module_level_state(module)}


@pytest.mark.parametrize(
    ("text", "is_state"),
    [
        ("X = {}", True),
        ("X: dict[str, int] = {}", True),
        ("X = collections.deque()", True),
        ("X = itertools.count()", True),
        ("class A:\n    x = []", True),
        ("X = frozenset({1})", False),
        ("X = (1, 2)", False),
        ("X = attrs.field(factory=dict)", False),
        ("def f():\n    x = []", False),
    ],
)
def test_the_test_of_state_sees_what_it_should(text: str, *, is_state: bool) -> None:
    (module, *_) = modules("protocol")

    assert bool(module_level_state(Module(module.path, text, ast.parse(text)))) == is_state


# -- comments ---------------------------------------------------------------------------------------------------------

NOQA = re.compile(r"#\s*noqa(?P<codes>:\s*[A-Z]+[0-9]+(,\s*[A-Z]+[0-9]+)*)?(?P<rest>.*)", re.IGNORECASE)
IGNORE = re.compile(r"#\s*type:\s*ignore(?P<codes>\[[a-z, -]+\])?(?P<rest>.*)")
REASON = re.compile(r"\s*(--|#|—)\s*\S.{5,}")


def bad_exception(comment: str) -> str | None:
    """The error in a comment that switches a check off; None if there is none."""
    for pattern in (NOQA, IGNORE):
        match = pattern.search(comment)
        if match is None:
            continue
        if match["codes"] is None:
            return "name the rule that it switches off"
        if not REASON.match(match["rest"]):
            return "say why, on the same line: `# noqa: X000 -- reason`, `# type: ignore[code]  # reason`"
    return None


def test_a_comment_that_switches_a_check_off_says_which_and_why() -> None:
    wrong = [
        f"{module.name}:{line}: {problem}"
        for module in modules(*SHIPPED, "tests", "benchmarks")
        for line, comment in module.comments()
        if (problem := bad_exception(comment))
    ]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("comment", "is_bad"),
    [
        ("# noqa", True),
        ("# noqa: E501", True),
        ("# noqa: E501 --", True),
        ("# noqa: E501 -- an address cannot be broken", False),
        ("# noqa: FBT001, E501 -- the value of a flag", False),
        ("# type: ignore", True),
        ("# type: ignore[misc]", True),
        ("# type: ignore[misc]  # waiters have one", False),
        ("# an ordinary comment", False),
    ],
)
def test_the_test_of_reasons_sees_what_it_should(comment: str, *, is_bad: bool) -> None:
    assert (bad_exception(comment) is not None) == is_bad


def test_nothing_is_left_to_do() -> None:
    """An unfinished thought is an issue, not a comment."""
    wrong = [
        f"{module.name}:{line}: {comment}: file an issue, and take the comment away"
        for module in modules(*SHIPPED)
        for line, comment in module.comments()
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", comment)
    ]

    assert not wrong, "\n".join(wrong)


# -- size and words ---------------------------------------------------------------------------------------------------


def is_scenario(node: ast.AST) -> bool:
    """Whether a function is declared as a scenario, so that the declaration has its summary."""
    return any(
        isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "scenario"
        for decorator in getattr(node, "decorator_list", [])
    )


@pytest.mark.parametrize("folder", ["protocol", "actors/system", "scenarios", "explorer"])
def test_every_public_class_and_function_says_what_it_is(folder: str) -> None:
    wrong = [
        f"{module.name}:{node.lineno}: {node.name} needs a docstring: one line that says what it is or returns"
        for module in modules(folder)
        for node in module.tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not is_scenario(node)
        and ast.get_docstring(node) is None
    ]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", [*SHIPPED, "tests", "benchmarks"])
def test_every_module_says_what_it_is(folder: str) -> None:
    wrong = [module.name for module in modules(folder) if not ast.get_docstring(module.tree)]

    assert not wrong, f"a docstring is missing in {', '.join(wrong)}"


NUMBERS = re.compile(r"\[[\w., ]+\]|\b(?:KERNEL|SEARCH)\S*|\b[A-Z]?\d[\w.]*|\b(?:to|and|steps?|sections?|as|in)\b")


@pytest.mark.parametrize(
    ("docstring", "is_one"),
    [("5.2.", True), ("[O]: 5.3b to e.", True), ("It is.", False)],
)
def test_a_docstring_that_is_only_a_number_is_seen(docstring: str, *, is_one: bool) -> None:
    assert is_only_a_number(docstring) == is_one


def is_only_a_number(docstring: str) -> bool:
    """Whether a docstring has sections and versions, and no word of its own."""
    return not re.search(r"[a-z]{2}", NUMBERS.sub("", docstring))


@pytest.mark.parametrize("folder", [*SHIPPED, "tests", "benchmarks"])
def test_no_docstring_is_only_a_number(folder: str) -> None:
    wrong = [
        f"{module.name}:{node.body[0].lineno}: a section is no explanation: {docstring}"
        for module in modules(folder)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module)
        if (docstring := ast.get_docstring(node)) and is_only_a_number(docstring)
    ]

    assert not wrong, "\n".join(wrong)


MAY_BE_MISSING = {
    ("tests/files/test_procps.py", "skip"),  # procps: .ci/run says so
    ("tests/packaging/test_distribution.py", "skip"),  # other versions of Python
    ("tests/stress/browser.py", "skip"),  # Chromium: .ci/run says so
}


def test_no_test_is_switched_off() -> None:
    wrong = [
        f"{module.name}:{node.lineno}: {node.attr}: mend the test or the code"
        for module in modules("tests")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in ("skip", "skipif", "xfail", "importorskip")
        if (module.name, node.attr) not in MAY_BE_MISSING
    ]

    assert not wrong, "\n".join(wrong)
