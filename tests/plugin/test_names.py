"""Projects with own modules named protocol, actors, scenarios or explorer: each side imports its own modules."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slabrace.names import NAMES
from tests.helpers import MODULE, SCRIPT

PLACES = {
    "protocol": "protocol.py",
    "explorer": "explorer.py",
    "actors": "actors/__init__.py",
    "scenarios": "scenarios/__init__.py",
}
OWN = {PLACES[name]: f"NAME = 'my {name}'\n" for name in NAMES}
"""The modules and packages of a project."""
FOLDERS = {f"{name}/mine.py": f"NAME = 'my {name}'\n" for name in NAMES}
"""Folders of a project that are not packages."""

IMPORTS_ITS_OWN = "from protocol import NAME as p\nfrom explorer import NAME as e\nimport scenarios, actors\n"
KEEPS_ITS_OWN = """
def test_mine(explore):
    assert explore("rmdir-empty", kernel="5.4-fixed", budget=2, workers=2).schedules == 2
    import scenarios as again
    assert again is scenarios
    assert [p, actors.NAME, scenarios.NAME, e] == ["my protocol", "my actors", "my scenarios", "my explorer"]
"""

PYTEST = (str(Path(sys.executable).with_name("pytest")), "-q", "-p", "no:cacheprovider")
PYTHON_M_PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
WAYS = {
    "python -m pytest": (PYTHON_M_PYTEST, {}),
    "pytest, and PYTHONPATH": (PYTEST, {"PYTHONPATH": "."}),
    "pytest, and a conftest.py": (PYTEST, {"conftest.py": ""}),
    "pytest, and pythonpath": (PYTEST, {"pytest.ini": "[pytest]\npythonpath = .\n"}),
    "pytest -p scenarios": ((*PYTEST, "-p", "scenarios"), {"PYTHONPATH": "."}),
}
"""The ways in which the project's directory becomes the first entry of sys.path."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command in a project with these files; PYTHONPATH is set if the files include it."""

    def run_in_project(files: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
        above = os.environ.get("PYTHONPATH")
        own = files.get("PYTHONPATH")
        env |= {"PYTHONPATH": os.pathsep.join(filter(None, (own, above)))} if own or above else {}
        for name, text in files.items():
            if name != "PYTHONPATH":
                (tmp_path / name).parent.mkdir(exist_ok=True)
                (tmp_path / name).write_text(text)
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=env)  # noqa: S603 -- a command of the tests

    return run_in_project


# -- pytest -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [next(iter(WAYS)), *(pytest.param(way, marks=pytest.mark.slow) for way in [*WAYS][1:])])
def test_a_project_is_tested_that_has_the_same_names(run: Run, way: str) -> None:
    command, more = WAYS[way]
    result = run({**OWN, **more, "tests/test_it.py": IMPORTS_ITS_OWN + KEEPS_ITS_OWN}, *command)

    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_the_project_may_import_its_own_after_a_search(run: Run) -> None:
    late = """
        def test_mine(explore):
            explore("rmdir-empty", kernel="5.4-fixed", budget=1)
            from scenarios import NAME
            import protocol
            assert [NAME, protocol.NAME] == ["my scenarios", "my protocol"]
            explore("rmdir-empty", kernel="5.4-fixed", budget=1)
            import protocol as again
            assert again is protocol
    """
    result = run({**OWN, "test_it.py": late.replace("\n        ", "\n")}, *PYTHON_M_PYTEST)

    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_scenarios_of_ones_own_may_be_in_a_folder_of_that_name(run: Run) -> None:
    mine = """
        from scenarios.registry import MACHINE, scenario

        @scenario("mine", "boots", *MACHINE)
        def mine(stage):
            stage.boot()
    """
    test = """
        from scenarios.mine import mine

        def test_mine(explore):
            assert explore(mine, budget=1, must_reach=False).findings == ()
    """
    files = {"scenarios/mine.py": mine, "test_it.py": test, "protocol.py": "", "explorer/__init__.py": ""}
    result = run({name: text.replace("\n        ", "\n") for name, text in files.items()}, *PYTHON_M_PYTEST)

    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_a_project_whose_folders_have_the_names_imports_from_them(run: Run) -> None:
    test = """
        import protocol.mine, scenarios.mine, actors.mine, explorer.mine

        def test_mine(explore):
            explore("rmdir-empty", kernel="5.4-fixed", budget=1)
            names = ("protocol", "scenarios", "actors", "explorer")
            found = (protocol.mine, scenarios.mine, actors.mine, explorer.mine)
            assert [module.NAME for module in found] == [f"my {name}" for name in names]
    """
    result = run({**FOLDERS, "test_it.py": test.replace("\n        ", "\n")}, *PYTHON_M_PYTEST)

    assert "1 passed" in result.stdout, result.stdout + result.stderr


def test_where_the_name_is_the_projects_ours_can_be_imported_in_a_block(run: Run) -> None:
    test = """
        import scenarios
        from slabrace.names import ours

        with ours():
            from scenarios.registry import MACHINE, Scenario

        def test_mine(explore):
            mine = Scenario("mine", "boots", MACHINE, lambda stage: stage.boot() and None)
            assert explore(mine, budget=1, must_reach=False).findings == ()
            assert scenarios.NAME == "my scenarios"
    """
    result = run({**OWN, "test_it.py": test.replace("\n        ", "\n")}, *PYTHON_M_PYTEST)

    assert "1 passed" in result.stdout, result.stdout + result.stderr


@pytest.mark.parametrize("place", ["scenarios.py", "scenarios/__init__.py"])
def test_a_module_of_ours_that_the_projects_name_hides_is_missed_in_one_clear_line(
    run: Run, tmp_path: Path, place: str
) -> None:
    result = run({place: "", "test_it.py": "from scenarios.registry import Scenario\n"}, *PYTHON_M_PYTEST)

    (line,) = [line for line in result.stdout.splitlines() if line.startswith("E ")]
    assert line == (
        f"E   ModuleNotFoundError: No module named 'scenarios.registry': here scenarios is {tmp_path / place}, and "
        "slabrace has a package of that name; rename yours, or import slabrace's modules inside of "
        "`with slabrace.names.ours():`"
    )


def test_a_module_that_nobody_has_is_missed_as_ever(run: Run) -> None:
    result = run({**OWN, "test_it.py": "import scenarios.birds\n"}, *PYTHON_M_PYTEST)

    assert "E   ModuleNotFoundError: No module named 'scenarios.birds'\n" in result.stdout


def test_a_session_that_does_not_explore_imports_nothing_of_ours(run: Run) -> None:
    test = """
        import sys

        def test_nothing_is_there():
            assert not {"protocol", "actors", "scenarios", "explorer"} & set(sys.modules)
    """
    result = run({"test_it.py": test.replace("\n        ", "\n")}, *PYTEST)

    assert "1 passed" in result.stdout, result.stdout + result.stderr


# -- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["python -m slabrace", "slabrace"])
@pytest.mark.parametrize("own", [OWN, FOLDERS], ids=["modules", "folders"])
def test_the_command_runs_in_a_project_that_has_the_same_names(
    run: Run, command: tuple[str, ...], own: dict[str, str]
) -> None:
    explore = ("explore", "rmdir-empty", "--kernel", "5.4-fixed", "--budget", "16", "--workers", "2", "--no-log")
    result = run({**own, "PYTHONPATH": "."}, *command, *explore)

    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert "nothing found" in result.stdout


def test_the_old_module_runs_in_a_project_with_scenarios_of_its_own(run: Run) -> None:
    own = {name: text for name, text in OWN.items() if not name.startswith("explorer")}
    result = run(own, sys.executable, "-m", "explorer", "list", "scenarios")

    assert (result.returncode, result.stderr) == (0, "")
    assert "rmdir-empty" in result.stdout
