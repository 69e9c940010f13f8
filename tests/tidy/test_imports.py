"""The imports that kernel code may have. The order of the packages is a contract of import-linter (pyproject.toml)."""

from __future__ import annotations

import sys

import pytest

from tests.helpers import run_process
from tests.tidy.sources import ROOT, SHIPPED, modules

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
@pytest.mark.parametrize("package", SHIPPED)
def test_every_module_can_be_imported_first(package: str) -> None:
    """No module needs another one to be imported before it: each is imported as the first one."""
    names = [
        ".".join(module.path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for module in modules(package)
        if module.path.name != "__main__.py"
    ]
    script = (
        "import importlib, sys\n"
        "ours = ('protocol', 'actors', 'scenarios', 'explorer')\n"
        f"for name in {names!r}:\n"
        "    for loaded in [n for n in sys.modules if n.partition('.')[0] in ours]:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    result = run_process(sys.executable, "-c", script)

    assert result.returncode == 0, result.stderr
