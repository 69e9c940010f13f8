"""The import names `protocol`, `actors`, `scenarios` and `explorer`, for a process in which a project uses them, too.

These are common words. A project that slabrace tests may have a folder `scenarios` or a file `protocol.py` of its own,
and Python takes the first one on `sys.path`. So the command and the pytest plugin start in this package, whose name
only slabrace has, and import the four packages by their place on disk: `ours()` for a block, `claim()` for the whole
process. docs/adr/0014-import-names.md gives the reasons for the names.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import PathFinder

TYPE_CHECKING = False  # to import typing would delay the command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ("ours",)

NAMES = ("protocol", "actors", "scenarios", "explorer")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 -- pathlib takes longer to import


def claim() -> None:
    """Give the four names to slabrace, for the rest of this process."""
    share()
    _enter()


def call(place: str, *arguments: object) -> Any:
    """Call the function at *place* (`module:function`), for a process that slabrace did not start: a cluster's."""
    claim()
    module, _, function = place.partition(":")
    return getattr(import_module(module), function)(*arguments)


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
    """Allow a project and slabrace to use the same names in this process; nothing is imported yet."""
    if FINDER not in sys.meta_path:
        sys.meta_path.insert(0, FINDER)


class Finder:
    """Finds the four packages, and the modules inside of them, before any other finder.

    While `depth` is not 0, the names are slabrace's. Otherwise they are the project's, if it has such a module, or such
    a package with an `__init__.py`. A folder without `__init__.py` has lower precedence than every installed package,
    as it does in Python; its modules are found beside slabrace's.
    """

    depth = 0

    def find_spec(self, name: str, path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        """The spec of *name*, if it is one of the four or inside of one; None leaves it to the other finders."""
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
            spec.submodule_search_locations = []  # without it Python would not call find_spec() for names inside
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
        """The project's module or package with one of the four names; None if it has none."""
        spec = self._by_others(name, None)
        return spec if spec is not None and spec.origin is not None and not _is_package(name, spec.origin) else None

    def _by_others(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        others = (one for one in sys.meta_path if one is not self and hasattr(one, "find_spec"))
        specs = (finder.find_spec(name, path) for finder in others)
        return next((spec for spec in specs if spec is not None), None)


FINDER = Finder()


class Loader:
    """Runs a module of slabrace's that the project imports, with the four names set to slabrace's packages."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module, without running its code."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code."""
        assert module.__spec__ is not None, "the import system sets it"
        module.__spec__.loader = module.__loader__ = self._loader
        with ours():
            self._loader.exec_module(module)


_theirs: dict[str, ModuleType] = {}
"""The project's modules, while slabrace's modules have their names."""
_ours: dict[str, ModuleType] = {}
"""Slabrace's modules, while the project's modules have their names."""


def is_ours(name: str) -> bool:
    """Whether the module with this name is slabrace's at present."""
    return _is_package(name, getattr(sys.modules[name], "__file__", None) or "")


def _is_package(name: str, file: str) -> bool:
    """Whether *file* is the `__init__.py` of slabrace's package of that name."""
    return os.path.realpath(os.path.dirname(file)) == os.path.realpath(os.path.join(ROOT, name))  # noqa: PTH118, PTH120 -- as above


def _is_inside(top: str, file: str | None) -> bool:
    """Whether *file* belongs to slabrace's package *top*."""
    return (file or "").startswith(os.path.join(ROOT, top, ""))  # noqa: PTH118 -- as above


def _place_of(package: ModuleType) -> str:
    """The place of a module: its file, or its folders if it has no file."""
    return package.__file__ or ", ".join(getattr(package, "__path__", ()))


def _take(names: Iterable[str]) -> dict[str, ModuleType]:
    """Remove the modules of these names, and the modules inside of them, from `sys.modules`; return them."""
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
