"""The sdist and the wheel: built, installed with only the run-time lock, and run outside of the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.doors.stranger import try_project
from tests.tidy.sources import ROOT, SHIPPED
from tests.tidy.test_packaging import closure, locked, project, requirement_name

pytestmark = pytest.mark.slow

MINORS = (11, 12, 13)
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "runs", "*.egg-info", "__pycache__", "tests", "benchmarks", "docs")

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "PYTEST"))}
"""The environment of a user: no variable points into the checkout."""


def run(*command: str | Path, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command that ends with this exit code."""
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=cwd, env=CLEAN)  # noqa: S603 -- a command of the tests
    assert result.returncode == code, result.stdout + result.stderr
    return result


# -- the built files --------------------------------------------------------------------------------------------------


@attrs.frozen
class Built:
    """The files that are built: the sdist, a wheel from it, and one from the tree."""

    sdist: Path
    wheel: Path
    wheel_of_tree: Path


def build(kind: str, source: Path, out: Path) -> Path:
    """Build an sdist or a wheel without network, with the packages of the lock for development."""
    run(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, source, cwd=source)
    (file,) = out.iterdir()
    return file


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build all files from a copy of the tree, because a build leaves files behind that a later one would include."""
    place = tmp_path_factory.mktemp("dist")
    tree = shutil.copytree(ROOT, place / "tree", ignore=NOT_SOURCE)
    sdist = build("sdist", tree, place / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "unpacked", filter="data")
    (unpacked,) = (place / "unpacked").iterdir()
    return Built(sdist, build("wheel", unpacked, place / "wheel"), build("wheel", tree, place / "wheel-of-tree"))


def names_in(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


def test_the_wheel_of_the_sdist_has_the_files_of_the_wheel_of_the_tree(built: Built) -> None:
    assert names_in(built.wheel) == names_in(built.wheel_of_tree)


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(built: Built) -> None:
    packages = {
        path.relative_to(ROOT).as_posix()
        for package in SHIPPED
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    inside = {name for name in names_in(built.wheel) if ".dist-info/" not in name}

    assert inside == packages


# -- installed --------------------------------------------------------------------------------------------------------


def candidates(minor: int) -> Iterator[Path]:
    """The possible paths of a Python of this version: this one, on PATH, or among the versions of pyenv."""
    if sys.version_info[1] == minor:
        yield Path(sys.executable)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield Path(folder, f"python3.{minor}")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python"))


def find_python(minor: int) -> Path | None:
    """A Python of this version that runs; a shim of pyenv may exist and fail."""
    question = "import sys, venv, ensurepip; print(sys.version_info[1])"
    for path in candidates(minor):
        if os.access(path, os.X_OK):
            answer = subprocess.run([path, "-c", question], capture_output=True, text=True, check=False, env=CLEAN)  # noqa: S603 -- a Python
            if answer.stdout.strip() == str(minor):
                return path
    return None


def install(python: Path, place: Path, wheel: Path, *more: Path) -> Path:
    """Make an environment with the wheel and the pins of the run-time lock and *more*; return its scripts' folder."""
    run(python, "-m", "venv", place, cwd=place.parent)
    pip = (place / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    locks = [part for lock in (ROOT / "requirements-run.lock", *more) for part in ("--requirement", lock)]
    run(*pip, "--require-hashes", "--only-binary", ":all:", *locks, cwd=place.parent)
    run(*pip, "--no-deps", "--no-index", wheel, cwd=place.parent)
    return place / "bin"


@pytest.mark.parametrize("minor", MINORS)
def test_the_wheel_runs_with_the_run_time_lock_alone(built: Built, tmp_path: Path, minor: int) -> None:
    python = find_python(minor)
    if python is None:
        pytest.skip(f"there is no Python 3.{minor} on this machine")
    scripts = install(python, tmp_path / "venv", built.wheel)
    slabrace, work = scripts / "slabrace", tmp_path / "work"
    work.mkdir()
    run(scripts / "python", "-m", "pip", "check", cwd=work)
    needs = project()["project"]
    listed = json.loads(run(scripts / "python", "-m", "pip", "list", "--format=json", cwd=work).stdout)
    expected = closure(requirement_name(need) for need in needs["dependencies"]) | {"slabrace"}
    assert {requirement_name(one["name"]) for one in listed} - {"pip", "setuptools"} == expected

    assert run(slabrace, "--version", cwd=work).stdout == f"slabrace {needs['version']}\n"
    assert "shared-dentry" in run(slabrace, "list", "scenarios", cwd=work).stdout
    run(slabrace, "run", "shared-dentry", "--kernel", "5.3", "--set", "generations=3", "--log", "x.log", cwd=work)
    run(slabrace, "replay", "x.log", cwd=work)
    search = ("explore", "canary", "--set", "rounds=1", "--budget", "16", "--workers", "2", "--first")
    assert "an update was lost" in run(slabrace, *search, cwd=work, code=1).stdout
    (log,) = work.glob("runs/*.log")
    run(slabrace, "replay", log, cwd=work, code=1)
    refused = run(slabrace, "growth", "--plot", "x.svg", cwd=work, code=2)
    assert refused.stderr.count("\n") == 1
    assert "slabrace[plot]" in refused.stderr


def test_a_strangers_project_with_our_names_is_tested_from_the_wheel(built: Built, tmp_path: Path) -> None:
    """An installed package ranks before a folder without `__init__.py`, an editable one after it: both are tested."""
    lock = tmp_path / "pytest.lock"
    names = closure(["pytest"])
    lock.write_text("\n".join(line for line in locked("requirements.lock") if requirement_name(line) in names))
    scripts = install(Path(sys.executable), tmp_path / "venv", built.wheel, lock)
    files = {
        "scenarios/mine.py": (
            "from scenarios.registry import MACHINE, scenario\n\n\n"
            "@scenario('mine', 'boots a machine', *MACHINE)\n"
            "def mine(stage):\n    stage.boot()\n"
        ),
        "protocol.py": "MINE = True\n",
        "tests/test_mine.py": (
            "import protocol\nfrom scenarios.mine import mine\n\n\n"
            "def test_mine(explore):\n    explore(mine, budget=2, must_reach=False)\n    assert protocol.MINE\n\n\n"
            "def test_ours(explore):\n    explore('canary', settings={'rounds': 1}, expect='bug', workers=2)\n"
        ),
    }
    for name, text in files.items():
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / name).write_text(text)

    result = run(scripts / "python", "-m", "pytest", "-q", cwd=tmp_path / "project")
    assert "2 passed" in result.stdout

    own = tmp_path / "own"
    own.mkdir()
    said = try_project(scripts / "python", own, CLEAN)
    assert "signature: oracle:objects-of-the-dead:" in "\n".join(said.values())
