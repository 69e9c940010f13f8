"""The imports that kernel code may have. The order of the packages is a contract of import-linter (pyproject.toml)."""

from __future__ import annotations

import sys

import grimp
import pytest

from tests.helpers import run_process
from tests.tidy.sources import SHIPPED, modules

NOT_FOR_THE_KERNEL = {
    "trio": "await the seam (actors/system/flow.py): the drivers run it",
    "random": "ask the strategy: `await ctx.choose(n)`",
    "secrets": "ask the strategy: `await ctx.choose(n)`",
    "time": "virtual time is `ctx.world.now`, and waiting is `await ctx.sleep(ns)`",
    "datetime": "virtual time is `ctx.world.now`",
    "asyncio": "await the seam (actors/system/flow.py): the drivers run it",
    "threading": "a flow is a Flow: `machine.start(...)`",
    "msgpack": "what is recorded is the recorder's affair",
    "os": "the simulated kernel knows no other machine",
}


def test_every_package_has_modules_that_are_looked_at() -> None:
    for package in SHIPPED:
        assert len(modules(package)) > 3, package


def test_imports_are_absolute() -> None:
    wrong = [
        f"{module.name}:{line}: write the package's name, not dots"
        for module in modules(*SHIPPED, "tests")
        for line, name in module.imports()
        if name.startswith(".")
    ]

    assert not wrong, "\n".join(wrong)


def test_kernel_code_imports_nothing_that_is_not_deterministic() -> None:
    wrong = [
        f"{module.name}:{line} imports {name}: {NOT_FOR_THE_KERNEL[name.partition('.')[0]]}"
        for module in modules("actors", "scenarios")
        for line, name in module.imports()
        if name.partition(".")[0] in NOT_FOR_THE_KERNEL and not module.name.startswith("actors/system/")
    ]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["trio", "random", "time"])
def test_in_actors_only_the_trio_driver_imports_what_is_outside_the_simulation(name: str) -> None:
    allowed = {"trio": {"actors/system/trio_driver.py"}}.get(name, set())
    found = {module.name for module in modules("protocol", "actors") for _, other in module.imports() if other == name}

    assert found <= allowed, f"{name} is imported by {found - allowed}"


@pytest.mark.slow
def test_every_module_can_be_imported_first() -> None:
    """No module needs another one to be imported before it.

    A module on no circle of imports finds all that it imports complete, whichever comes first. So those on a circle are
    tried. The package of a module is imported before it: on a circle with its package, all begin with the package.
    """
    imports = imports_at_run_time()
    firsts = [circle[:1] if package_of(circle) else circle for circle in circles(imports)]
    names = sorted(name for circle in firsts for name in circle)
    script = (
        "import importlib, sys\n"
        f"ours = {SHIPPED!r}\n"
        f"for name in {names!r}:\n"
        "    for loaded in [n for n in sys.modules if n.partition('.')[0] in ours]:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    result = run_process(sys.executable, "-c", script)

    assert names
    assert result.returncode == 0, result.stderr


def imports_at_run_time() -> dict[str, set[str]]:
    """What each module needs: the modules that it imports, also inside of its functions, and its packages."""
    graph = grimp.build_graph(*SHIPPED, exclude_type_checking_imports=True, cache_dir=None)
    return {name: {*graph.find_modules_directly_imported_by(name), *packages_of(name)} for name in graph.modules}


def packages_of(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def package_of(circle: list[str]) -> set[str]:
    """The member that is a package of all the others, if there is one."""
    return set(circle[:1]).intersection(*({*packages_of(name), name} for name in circle))


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """The largest sets of modules that all need each other, each sorted."""
    reached = {name: reach(imports, name) for name in imports}
    mutual = {name: frozenset(other for other in reached[name] if name in reached[other]) for name in imports}
    return [sorted(members) for members in dict.fromkeys(mutual.values()) if len(members) > 1]


def reach(imports: dict[str, set[str]], name: str) -> set[str]:
    found, todo = {name}, [name]
    while todo:
        new = imports[todo.pop()] - found
        found |= new
        todo += new
    return found


def test_circles_are_found_and_nothing_else() -> None:
    imports = {"a": {"b"}, "b": {"c", "p"}, "c": {"a"}, "p": {"p.x"}, "p.x": {"p"}, "d": {"a"}}

    assert sorted(circles(imports)) == [["a", "b", "c"], ["p", "p.x"]]
    assert [package_of(circle) for circle in sorted(circles(imports))] == [set(), {"p"}]
