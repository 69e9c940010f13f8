"""The command `slabinfo`: a file of the simulated kernel at some step of a log."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from actors.files.crash_reader import look_at
from actors.files.kernel_files import FILES, KernelFile, cgroup_path, find_file, locate
from actors.linux.include.kernfs import cgroup_ino
from explorer import signals
from explorer.cli.options import check_reached, given
from explorer.cli.parser import needs
from explorer.json_out import as_json, print_json
from explorer.report import LiveProgress
from explorer.session import Result, replay
from explorer.streams import complain, print_bytes
from protocol.atomic import check_free, write_file
from protocol.errors import DamagedLogError, UsageError
from protocol.findings import Oops
from protocol.formats.cgroup_files import parse_cgroups, parse_flat_keyed, parse_u64
from protocol.formats.kpagecgroup import unpack_kpagecgroup
from protocol.formats.memcg_slabinfo import parse_memcg_slabinfo
from protocol.formats.slab_directory import parse_directory
from protocol.formats.slabinfo import parse_kmem_slabinfo
from protocol.formats.slabinfo_full import parse_slabinfo_full

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from scenarios.stage import Stage


@attrs.frozen
class Shown:
    """The content of a file as bytes, its time (virtual ns), and the cgroups at that time, by inode number."""

    file: KernelFile
    data: bytes
    time: int
    cgroups: dict[int, str]


def main(options: argparse.Namespace) -> int:
    """Replay the log up to the step, and print or write the file as it is there; return the exit code."""
    needs(options, "--force", "--out")
    options.file = "slabinfo" if options.file is None else options.file
    _check_before(options)
    shown: list[Shown] = []
    progress = LiveProgress()
    try:
        result = replay(
            options.log,
            driver="stepper",
            given=given(options),
            until=options.at,
            progress=progress,
            inspect=lambda stage: shown.append(_look(stage, options.file)),
        )
    finally:
        progress.close()
    check_reached(options.log, options.at, result)
    if result.outcome in ("diverged", "interrupted"):
        return _report_no_file(options, result)
    _give(options, result, shown[0])
    if result.damage is not None:
        complain(result.damage)
    return DamagedLogError.exit_code if result.is_damaged else 0


# -- errors -----------------------------------------------------------------------------------------------------------


def _check_before(options: argparse.Namespace) -> None:
    """Refuse useless options before the log is replayed."""
    base = options.file.rpartition("/")[2]
    file = next((file for file in FILES if file.css and file.name == base), None) or find_file(options.file)
    if file.is_binary and options.out is None and not options.json and sys.stdout.isatty():
        msg = f"{file.name} is binary, and standard output is a terminal: give --out FILE or --json, or redirect it"
        raise UsageError(msg)
    check_free(options.out, overwrite=options.force)


def _report_no_file(options: argparse.Namespace, result: Result) -> int:
    """Report that the replay did not reach the step; there is no file to show."""
    if options.json:
        print_json(_facts(options, result))
    elif result.divergence is not None:
        where = f"the replay diverged at step {result.divergence.step}: {result.divergence.now}"
        complain(f"{options.log}: {where}; see slabrace replay")
    return result.exit_code


# -- the file ---------------------------------------------------------------------------------------------------------


def _look(stage: Stage, name: str) -> Shown:
    """Read the file now; UsageError if the machine has no such file, or if reading it is an oops."""
    machine = stage.machine
    file, cgroup = locate(machine, name)
    try:
        data = look_at(machine, file, cgroup)
    except Oops as oops:
        msg = f"{file.name}: a reader would die of this oops now: {oops.message}"
        raise UsageError(msg) from None
    return Shown(file, data, machine.world.now, _cgroups_by_inode(machine))


def _cgroups_by_inode(machine: Machine) -> dict[int, str]:
    root = machine.root_cgroup
    return {cgroup_ino(cgroup): f"/{cgroup_path(cgroup)}" for cgroup in (root, *root.descendants())}


@signals.answering()
def _give(options: argparse.Namespace, result: Result, shown: Shown) -> None:
    """Write the file to its destination; with `--json`, print the facts about it on standard output."""
    if options.out is not None:
        write_file(options.out, shown.data, overwrite=options.force)
    if options.json:
        facts = _facts(options, result) | {
            "time_ns": shown.time,
            "file": shown.file.name,
            "path": shown.file.path,
            "bytes": len(shown.data),
            "rows": _rows(shown),
            "out": str(options.out) if options.out else None,
        }
        print_json(facts)
    elif options.out is None:
        print_bytes(shown.data)


def _facts(options: argparse.Namespace, result: Result) -> dict[str, Any]:
    header = result.header
    return {
        "outcome": "ok" if result.outcome == "finding" else result.outcome,
        "log": str(options.log),
        "scenario": header.scenario,
        "kernel": header.kernel,
        "seed": header.seed,
        "step": result.steps,
        "divergence": as_json(result.divergence),
        "damage": result.damage,
    }


def _rows(shown: Shown) -> list[dict[str, Any]]:
    """The rows of the file as objects, made by the parser for real files."""
    name = shown.file.name
    if shown.file.is_binary:
        inodes = enumerate(unpack_kpagecgroup(shown.data, source=name))
        return [{"pfn": pfn, "inode": ino, "cgroup": shown.cgroups.get(ino)} for pfn, ino in inodes if ino]
    text = shown.data.decode()
    if name in ("memory.kmem.usage_in_bytes", "memory.current"):
        return [{"name": name, "value": parse_u64(text, source=name)}]
    if name.endswith(".stat"):
        return [{"name": key, "value": value} for key, value in parse_flat_keyed(text, source=name).items()]
    return [as_json(row) for row in _PARSERS[name](text, source=name)]


_PARSERS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "slabinfo": parse_kmem_slabinfo,
    "slabinfo_full": parse_slabinfo_full,
    "memcg_slabinfo": parse_memcg_slabinfo,
    "memory.kmem.slabinfo": parse_kmem_slabinfo,
    "cgroups": parse_cgroups,
    "slab": parse_directory,
}
