"""The import names `protocol`, `actors`, `scenarios` and `explorer`, in a process where another project has them too.

These are common words. A project that slabrace tests may have a folder `scenarios` or a file `protocol.py` of its own,
and Python takes the one that comes first on `sys.path`. So the command and the pytest plugin start in this package,
whose name is slabrace's alone, and import the four packages by their place on disk: `ours()` for a block, `claim()` for
the whole process. docs/adr/0014-import-names.md says why the names are as they are.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib.machinery import PathFinder

TYPE_CHECKING = False  # importing typing would make the command start later

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

NAMES = ("protocol", "actors", "scenarios", "explorer")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 -- pathlib takes longer to import


def claim() -> None:
    """Give the four names to slabrace, for the rest of this process."""
    share()
    _enter()


@contextmanager
def ours() -> Iterator[None]:
    """A block in which the four names are slabrace's packages. Outside, the project's own modules have them again."""
    share()
    _enter()
    try:
        yield
    finally:
        _leave()


def share() -> None:
    """Let a project and slabrace use the same names in this process; nothing is imported yet."""
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)


class Finder:
    """Finds the four packages, and the modules inside of them, before any other finder is asked.

    While `depth` is not 0 the names are slabrace's. Otherwise they are the project's, if it has a module or a package
    with an `__init__.py` of that name. A folder without one ranks behind every installed package, as it does in Python;
    its modules are found beside slabrace's.
    """

    depth = 0

    def find_spec(self, name: str, path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        """How to import *name*, if it is one of the four or inside; None leaves it to the other finders."""
        top, _, rest = name.partition(".")
        if top not in NAMES:
            return None
        spec = self._module(name, top, path) if rest else self._package(name)
        if spec is not None and not self.depth and _is_inside(top, spec.origin):
            spec.loader = Loader(spec.loader)  # type: ignore[assignment]  # the base class takes long to import
        return spec

    def _package(self, name: str) -> ModuleSpec | None:
        spec = None if self.depth else self.of_the_project(name)
        if spec is None:
            return PathFinder.find_spec(name, [ROOT])
        if spec.submodule_search_locations is None:
            spec.submodule_search_locations = []  # else Python would not ask us for what it takes to be inside
        return spec

    def _module(self, name: str, top: str, path: Sequence[str] | None) -> ModuleSpec | None:
        spec = self._by_others(name, path)
        if name.count(".") > 1:
            return spec
        if is_ours(top):
            return spec or PathFinder.find_spec(name, [os.path.join(folder or os.curdir, top) for folder in sys.path])  # noqa: PTH118 -- as above
        if spec is not None and not _is_inside(top, spec.origin):
            return spec
        if PathFinder.find_spec(name, [os.path.join(ROOT, top)]) is None:  # noqa: PTH118 -- as above
            return None
        msg = (
            f"No module named {name!r}: here {top} is {_place_of(sys.modules[top])}, and slabrace has a package of "
            "that name; rename yours, or import slabrace's modules inside of `with slabrace.names.ours():`"
        )
        raise ModuleNotFoundError(msg, name=name)

    def of_the_project(self, name: str) -> ModuleSpec | None:
        """The module or package that the project has under one of the four names; None if it has none."""
        spec = self._by_others(name, None)
        return spec if spec is not None and spec.origin is not None and not _is_package(name, spec.origin) else None

    def _by_others(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        specs = (finder.find_spec(name, path) for finder in sys.meta_path if finder is not self)
        return next((spec for spec in specs if spec is not None), None)


FINDER = Finder()


class Loader:
    """Runs a module of slabrace's that the project imports: the module's own imports mean slabrace's packages, too."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The module, before its code has run."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run its code."""
        assert module.__spec__ is not None, "the import system has made it"
        module.__spec__.loader = module.__loader__ = self._loader
        with ours():
            self._loader.exec_module(module)


_theirs: dict[str, ModuleType] = {}
"""The project's modules, while slabrace's have their names."""
_ours: dict[str, ModuleType] = {}
"""Slabrace's modules, while the project's have their names."""


def is_ours(name: str) -> bool:
    """Whether the module that has this name now is slabrace's."""
    return _is_package(name, getattr(sys.modules[name], "__file__", None) or "")


def _is_package(name: str, file: str) -> bool:
    """Whether *file* is the `__init__.py` of slabrace's package of that name."""
    return os.path.realpath(os.path.dirname(file)) == os.path.realpath(os.path.join(ROOT, name))  # noqa: PTH118, PTH120 -- as above


def _is_inside(top: str, file: str | None) -> bool:
    """Whether *file* is one of those of slabrace's package *top*."""
    return (file or "").startswith(os.path.join(ROOT, top, ""))  # noqa: PTH118 -- as above


def _place_of(package: ModuleType) -> str:
    """Where a module is: its file, or its folders if it has none."""
    return package.__file__ or ", ".join(getattr(package, "__path__", ()))


def _take(names: Iterable[str]) -> dict[str, ModuleType]:
    """Take the modules of these names, and those inside of them, out of `sys.modules`."""
    tops = set(names)
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in tops}


def _enter() -> None:
    FINDER.depth += 1
    if FINDER.depth == 1:
        _theirs.update(_take(name for name in NAMES if name in sys.modules and not is_ours(name)))
        sys.modules.update(_ours)
        _ours.clear()


def _leave() -> None:
    FINDER.depth -= 1
    if FINDER.depth == 0:
        _ours.update(_take(name for name in NAMES if name in _theirs or FINDER.of_the_project(name)))
        sys.modules.update(_theirs)
        _theirs.clear()
