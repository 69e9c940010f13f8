"""The distribution: its version, its command, its types, and its pinned packages."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from importlib import metadata, resources
from typing import Any

import pytest

from explorer.__main__ import main
from tests.tidy.sources import PACKAGES, ROOT, modules


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked() -> list[str]:
    """The lines of requirements.lock, each requirement with its hashes on one."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_installed_version_is_that_of_the_project() -> None:
    assert metadata.version("slabrace") == project()["project"]["version"]


def test_the_command_is_the_entry_point() -> None:
    (entry,) = metadata.entry_points(group="console_scripts", name="slabrace")

    assert entry.value == "explorer.__main__:main"
    assert entry.load() is main


def test_the_pytest_plugin_is_an_entry_point() -> None:
    (target,) = project()["project"]["entry-points"]["pytest11"].values()

    assert importlib.import_module(target).explore


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_ships_its_types(package: str) -> None:
    assert resources.files(package).joinpath("py.typed").is_file()


def test_the_packages_that_are_found_are_those_there_are() -> None:
    found = project()["tool"]["setuptools"]["packages"]["find"]["include"]

    assert sorted(pattern.rstrip("*") for pattern in found) == sorted(PACKAGES)


def test_the_default_capture_is_shipped() -> None:
    patterns = project()["tool"]["setuptools"]["package-data"]["scenarios"]
    captures = [path for path in (ROOT / "scenarios" / "data").iterdir() if path.is_file()]

    assert captures
    for capture in captures:
        assert any(capture.relative_to(ROOT / "scenarios").match(pattern) for pattern in patterns), capture


def test_the_types_are_checked_strictly_everywhere() -> None:
    mypy = project()["tool"]["mypy"]

    assert mypy["strict"] is True
    assert set(mypy["packages"]) >= set(PACKAGES)


def test_every_pinned_package_has_a_version_and_hashes() -> None:
    assert locked()
    for line in locked():
        assert re.fullmatch(r"\s*[A-Za-z0-9._-]+==[^\s;]+(\s*;[^\\]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*", line), line


def test_the_lock_names_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
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


def test_all_that_the_project_needs_is_pinned() -> None:
    needs = project()["project"]
    wanted = [*needs["dependencies"], *needs["optional-dependencies"]["dev"]]
    names = {canonical(re.match(r"[A-Za-z0-9._-]+", need)[0]) for need in wanted}  # type: ignore[index]  # each has a name
    pinned = {canonical(line.strip().partition("==")[0]) for line in locked()}

    assert names <= pinned


def test_what_is_imported_at_run_time_is_declared() -> None:
    """The packages need nothing that only the tests declare."""
    declared = {canonical(re.match(r"[A-Za-z0-9._-]+", need)[0]) for need in project()["project"]["dependencies"]}  # type: ignore[index]  # each has a name
    imported = {
        name.partition(".")[0]
        for module in modules(*PACKAGES)
        if module.name != "explorer/pytest_plugin.py"  # pytest loads it, so pytest is there
        for _, name in module.imports()
        if name.partition(".")[0] not in {*sys.stdlib_module_names, *PACKAGES}
    }

    assert {canonical(name) for name in imported} == declared


def test_the_licence_is_there() -> None:
    assert "MIT License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert project()["project"]["license"] == "MIT"
