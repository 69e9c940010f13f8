"""procps' slabtop and vmstat read the simulated /proc/slabinfo, mounted over the real one in a namespace of theirs."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.files.crash_reader import look
from protocol.formats.slabinfo import SlabinfoRow, parse_slabinfo
from scenarios.stage import Stage
from tests.files.helpers import find, play

TOOLS = ("unshare", "mount", "slabtop", "vmstat")


def in_namespace(*script: str) -> Sequence[str]:
    """The command that runs *script* in a user and mount namespace of its own; $1 is its argument."""
    return ("unshare", "--map-root-user", "--mount", "sh", "-ec", "; ".join(script), "sh")


def run_command(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- a command of the tests


@functools.cache
def why_not() -> str:
    """The reason why the tools cannot run here; empty if they can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not installed: .ci/run does that"
    if not Path("/proc/slabinfo").exists():
        return "this kernel has no /proc/slabinfo to mount over"
    tried = run_command(in_namespace("mount --bind /dev/null /proc/slabinfo"))
    return "" if tried.returncode == 0 else f"no private mount namespace here: {tried.stderr.strip()}"


def run_over(slabinfo: Path, tool: str) -> list[str]:
    """The lines that *tool* prints when *slabinfo* is /proc/slabinfo; skips the test, with a reason, if it cannot."""
    if why_not():
        pytest.skip(why_not())
    script = in_namespace('mount --bind "$1" /proc/slabinfo', f"exec {tool}")
    done = run_command([*script, str(slabinfo)])

    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


def has_objects(stage: Stage) -> bool:
    return sum(cache.live_objects for cache in stage.machine.child_caches) > 5


@pytest.fixture(params=["slub", "slab"])
def slabinfo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The slabinfo file of a small machine: two caches, one of them with zombies."""
    path = tmp_path / "slabinfo"
    stand = find(has_objects, "readers-vs-rmdir", settings={"allocator": request.param})
    path.write_bytes(look(stand.stage.machine, "slabinfo"))
    return path


def rows_of(path: Path) -> list[SlabinfoRow]:
    return list(parse_slabinfo(path.read_text(), source=str(path)))


def test_slabtop_shows_the_simulated_caches(slabinfo: Path) -> None:
    lines = run_over(slabinfo, "slabtop -o")
    rows = rows_of(slabinfo)
    shown = {words[-1]: words[:-1] for words in map(str.split, lines[7:])}

    assert shown.keys() == {row.name for row in rows}
    for row in rows:
        objs, active, _, size, slabs, per_slab, cache_size = shown[row.name]
        assert (int(objs), int(active)) == (row.num_objs, row.active_objs)
        assert (int(slabs), int(per_slab)) == (row.num_slabs, row.objperslab)
        assert size == f"{row.objsize / 1024:.2f}K"
        assert cache_size == f"{row.num_slabs * row.pagesperslab * 4}K"


def test_slabtop_adds_up_what_we_have(slabinfo: Path) -> None:
    lines = run_over(slabinfo, "slabtop -o")
    rows = rows_of(slabinfo)
    objects = (sum(row.active_objs for row in rows), sum(row.num_objs for row in rows))
    slabs = (sum(row.active_slabs for row in rows), sum(row.num_slabs for row in rows))

    assert f": {objects[0]} / {objects[1]} (" in lines[0]
    assert f": {slabs[0]} / {slabs[1]} (" in lines[1]


def test_vmstat_shows_the_simulated_caches(slabinfo: Path) -> None:
    header, *lines = run_over(slabinfo, "vmstat -m")
    rows = rows_of(slabinfo)

    assert header.split() == ["Cache", "Num", "Total", "Size", "Pages"]
    assert [line.split() for line in lines] == [
        [row.name, *map(str, (row.active_objs, row.num_objs, row.objsize, row.objperslab))] for row in rows
    ]


def test_both_read_a_whole_machine(tmp_path: Path) -> None:
    """The file has all rows of the capture that the machine was booted from."""
    path = tmp_path / "slabinfo"
    path.write_bytes(look(play("shared-dentry", until=4000).stage.machine, "slabinfo"))
    names = [row.name for row in rows_of(path)]
    used = [row.name for row in rows_of(path) if row.num_objs]
    slabtop = "\n".join(run_over(path, "slabtop -o"))

    assert len(used) >= 3
    assert all(name in slabtop for name in used)
    shown = [line.split()[0] for line in run_over(path, "vmstat -m")]
    assert sorted(name for name in shown if name != "Cache") == sorted(names), "the header is repeated"
