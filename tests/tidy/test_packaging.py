"""The distribution: its version, its command, its types, and its pinned packages."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata, resources
from typing import Any

import pytest
from packaging.requirements import Requirement

from slabrace.__main__ import main
from tests.tidy.sources import ROOT, SHIPPED, modules


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


LOCKS = ("requirements.lock", "requirements-run.lock")
each_lock = pytest.mark.parametrize("lock", LOCKS)


def locked(lock: str) -> list[str]:
    """The lines of a lock, each requirement with its hashes on one."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_installed_version_is_that_of_the_project() -> None:
    assert metadata.version("slabrace") == project()["project"]["version"]


def test_the_command_is_the_entry_point() -> None:
    (entry,) = metadata.entry_points(group="console_scripts", name="slabrace")

    assert entry.value == "slabrace.__main__:main"
    assert entry.load() is main


def test_the_pytest_plugin_is_an_entry_point() -> None:
    (target,) = project()["project"]["entry-points"]["pytest11"].values()

    assert importlib.import_module(target).explore


@pytest.mark.parametrize("package", SHIPPED)
def test_every_package_ships_its_types(package: str) -> None:
    assert resources.files(package).joinpath("py.typed").is_file()


def test_the_packages_that_are_found_are_those_there_are() -> None:
    found = project()["tool"]["setuptools"]["packages"]["find"]["include"]

    assert sorted(pattern.rstrip("*") for pattern in found) == sorted(SHIPPED)


def test_the_default_capture_is_shipped() -> None:
    patterns = project()["tool"]["setuptools"]["package-data"]["scenarios"]
    captures = [path for path in (ROOT / "scenarios" / "data").iterdir() if path.is_file()]

    assert captures
    for capture in captures:
        assert any(capture.relative_to(ROOT / "scenarios").match(pattern) for pattern in patterns), capture


def test_the_types_are_checked_strictly_everywhere() -> None:
    mypy = project()["tool"]["mypy"]

    assert mypy["strict"] is True
    assert set(mypy["packages"]) >= set(SHIPPED)


@each_lock
def test_every_pinned_package_has_a_version_and_hashes(lock: str) -> None:
    assert locked(lock)
    for line in locked(lock):
        assert re.fullmatch(r"\s*[A-Za-z0-9._-]+==[^\s;]+(\s*;[^\\]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", line), line


@each_lock
def test_no_lock_names_a_host(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    for word in (
        "://",
        "@ ",
        "--index-url",
        "--extra-index-url",
        "--find-links",
        "--trusted-host",
        "localhost",
        "www.",
    ):
        assert word not in text
    assert not re.search(r"\b\d{1,3}(\.\d{1,3}){3}\b(?!\S)", re.sub(r"==\S+", "", text)), "an address"
    assert not re.search(r"\.(com|org|net|io|dev|local|internal)\b", text)


def requirement_name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    assert match is not None, requirement
    return canonical(match[0])


def closure(names: Iterable[str]) -> set[str]:
    """These distributions and all that they need here, as their metadata says."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            needs = (Requirement(need) for need in metadata.requires(name) or ())
            waiting += [
                canonical(need.name) for need in needs if not need.marker or need.marker.evaluate({"extra": ""})
            ]
    return found


def test_all_that_the_project_needs_is_pinned() -> None:
    needs = project()["project"]
    wanted = [*needs["dependencies"], *itertools.chain(*needs["optional-dependencies"].values())]

    assert {requirement_name(need) for need in wanted} <= set(map(requirement_name, locked("requirements.lock")))


def test_the_lock_for_run_time_has_what_run_time_needs_and_nothing_else() -> None:
    needs = {requirement_name(need) for need in project()["project"]["dependencies"]}

    assert set(map(requirement_name, locked("requirements-run.lock"))) == closure(needs)


def test_both_locks_pin_the_same_files() -> None:
    everything = {" ".join(line.split()) for line in locked("requirements.lock")}

    assert {" ".join(line.split()) for line in locked("requirements-run.lock")} < everything


def test_what_is_imported_at_run_time_is_declared() -> None:
    """Nothing that only the tests need is needed by the packages."""
    needs = project()["project"]
    extras = (need for extra in ("plot", "cluster") for need in needs["optional-dependencies"][extra])
    declared = {requirement_name(need) for need in (*needs["dependencies"], *extras)}
    imported = {
        name.partition(".")[0]
        for module in modules(*SHIPPED)
        if module.name != "slabrace/pytest_plugin.py"  # pytest loads it, so pytest is there
        for _, name in module.imports()
        if name.partition(".")[0] not in {*sys.stdlib_module_names, *SHIPPED}
    }

    assert {canonical(name) for name in imported} == declared


def test_the_licence_is_there() -> None:
    assert "MIT License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert project()["project"]["license"] == "MIT"
