"""The public modules: their exported names are listed in a file, so that a removal is noticed."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest

PINNED = Path(__file__).with_name("exported.txt")
"""Lines `module.name`. A name may be added; the removal of a name breaks the users' code."""

MODULES = ("actors.api", "scenarios.api", "explorer.api", "slabrace.keep", "slabrace.names")


def pinned(module: str) -> list[str]:
    """The names that the file lists for a module."""
    lines = PINNED.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix(f"{module}.") for line in lines if line.rpartition(".")[0] == module]


@pytest.mark.parametrize("module", MODULES)
def test_a_public_module_exports_what_is_written_down(module: str) -> None:
    exported = import_module(module).__all__

    assert sorted(exported) == sorted(pinned(module))
    assert exported


@pytest.mark.parametrize("module", MODULES)
def test_what_is_exported_is_there_and_documented(module: str) -> None:
    public = import_module(module)
    for name in public.__all__:
        value = getattr(public, name)
        is_our_own = inspect.isclass(value) or (inspect.isfunction(value) and "actors.linux" not in value.__module__)
        assert value.__doc__ or not is_our_own, f"{module}.{name} has no documentation"


def test_the_file_names_no_other_module() -> None:
    modules = {line.rpartition(".")[0] for line in PINNED.read_text(encoding="utf-8").splitlines()}

    assert modules == set(MODULES)
