"""Patch files for tests, and a watchdog with a short time limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import explorer.watchdog

HEAD = """\
import asyncio, math, os, random, signal, sys, threading, time, types
import trio
import actors.linux.mm.slab_common as slab_common
from actors.machine.context import BUG_ON
from actors.api import kernel_fn, unpatched
from actors.system.actor import Actor, Shared
from protocol.errors import UsageError
from protocol.operations import UPDATE, operation

"""

WORK_FN = """
@kernel_fn("kmemcg_workfn", "mm/slab_common.c")
async def kmemcg_workfn(ctx, work):
"""

MakePatch = Callable[..., Path]


def indented(text: str, depth: int = 1) -> str:
    """*text*, indented by *depth* levels."""
    return "".join(f"{'    ' * depth}{line}\n" for line in text.splitlines())


@pytest.fixture
def make_patch(tmp_path: Path) -> MakePatch:
    """Write a patch of `kmemcg_workfn`, which runs once in rmdir-empty, with *body*; the text *before* precedes it."""

    def make(body: str, before: str = "") -> Path:
        path = tmp_path / "patch.py"
        path.write_text(f"{HEAD}{before}{WORK_FN}{indented(body)}")
        return path

    return make


def line_of(path: Path, mark: str = "# here") -> int:
    """The number of the line with *mark*."""
    (line,) = (number for number, text in enumerate(path.read_text().splitlines(), 1) if mark in text)
    return line


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the watchdog's limit to a fifth of a second for a step."""
    monkeypatch.setattr(explorer.watchdog, "TICK", 0.02)
