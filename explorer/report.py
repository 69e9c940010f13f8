"""What a person reads: the knobs before a run, what happened after it, and findings as the kernel would print them."""

from __future__ import annotations

import shlex
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from protocol.findings import Finding

if TYPE_CHECKING:
    from pathlib import Path

    from actors.system.world import World
    from explorer.session import Position, Result, TailStep
    from protocol.records import Header

QUIET_SECONDS = 2.0
REFRESH_SECONDS = 0.2


def make_console() -> Console:
    """Standard output, as wide as it is; piped text is not wrapped at 80."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def show_header(console: Console, header: Header, driver: str) -> None:
    """The knobs and the seed, before the first step."""
    knobs = " ".join(
        f"{name}={value if not isinstance(value, str) or len(value) < 40 else f'<{len(value)} characters>'}"
        for name, value in header.parameters.items()
    )
    console.print(
        f"[bold]{header.scenario}[/] on {header.kernel}: strategy {escape(header.strategy)}, seed {header.seed}, "
        f"driver {driver}, check {header.check}, slabrace {header.slabrace}"
    )
    console.print(f"  {escape(knobs)}")
    for patch in header.patches:
        where = f" ({patch.path}, sha256 {patch.sha256[:12]})" if patch.path else ""
        console.print(f"  patch {patch.name}{where}", markup=False)
    for name in header.without:
        console.print(f"  without {name}")
    if header.faults:
        console.print("  faults " + " ".join(f"{name}={probability}" for name, probability in header.faults.items()))


def show_result(console: Console, result: Result) -> None:
    """What happened, every finding, where the log is and how to replay it."""
    if result.samples:
        console.print(_samples(result))
    final = "  ".join(f"{name} {value}" for name, value in result.final.items())
    console.print(f"{result.steps} steps in {result.seconds:.2f} s; digest {result.digest}")
    console.print(f"  {final}")
    for finding, before in zip(result.findings, result.before, strict=False):
        show_finding(console, finding, before)
    for name in result.unreached:
        console.print(f"[yellow]never reached[/]: sometimes {escape(repr(name))}: this schedule did not try the race")
    if result.positions and not result.findings:
        console.print(_positions(result.positions))
    console.print(_verdict(result))


def _verdict(result: Result) -> str:
    if result.divergence is not None:
        return (
            f"[red]diverged[/] at step {result.divergence.step}\n  then: {escape(result.divergence.then)}\n"
            f"  now:  {escape(result.divergence.now)}\n"
            "  the kernel, its patches or the scenario are not those that were recorded"
        )
    if result.findings:
        return f"[red]{len(result.findings)} finding{'s' if len(result.findings) > 1 else ''}[/]"
    if result.outcome == "interrupted":
        return f"[yellow]interrupted[/] after step {result.steps}"
    if result.stopped != "quiescent":
        return f"stopped after step {result.steps} ({result.stopped}): nothing found up to here"
    return "[green]ok[/]: nothing found"


def show_replay_line(console: Console, result: Result, *, relaid: bool = False) -> None:
    """Where the log is, and the line to paste; with all patches, if those of the log were *relaid*."""
    if result.log is not None:
        line = f"slabrace replay {as_arguments(result.log, result.header, relaid=relaid)}"
        console.print(f"log: {result.log}\nreplay: {line}", soft_wrap=True, markup=False)


def as_arguments(log: Path | str, header: Header, *, relaid: bool = False) -> str:
    """A log as a command takes it: with the files of its patches, which run only if they are given again."""
    patches = [patch for patch in header.patches if relaid or patch.is_code]
    return shlex.quote(str(log)) + "".join(f" --patch {shlex.quote(patch.path or patch.name)}" for patch in patches)


def show_finding(console: Console, finding: Finding, before: tuple[TailStep, ...]) -> None:
    """One finding in the kernel's manner: what, where, by whom; then the steps that led to it."""
    where = f"{finding.flow} on CPU {finding.cpu}" if finding.cpu is not None else finding.flow or "the machine at rest"
    lines = [
        "------------[ cut here ]------------",
        f"[bold red]{escape(finding.message)}[/]",
        f"{finding.kind}{f' in {finding.function}()' if finding.function else ''}, step {finding.step}, "
        f"{finding.time / 1e6:.3f} ms" + (f", {finding.count} times" if finding.count > 1 else ""),
        f"flow: {escape(where)}",
        *(escape(detail) for detail in finding.details),
    ]
    if finding.stack:
        lines += ["Call Trace:", *(f" {name}" for name in finding.stack)]
    console.print("\n".join(lines))
    if before:
        console.print(_steps(before))
    console.print(f"signature: {finding.signature}\n---[ end trace ]---", markup=False)


def _steps(steps: tuple[TailStep, ...]) -> Table:
    table = Table("step", "ms", "cpu", "flow", "function", "operation", "of", "enabled", box=None, pad_edge=False)
    for step in steps:
        table.add_row(
            str(step.number),
            f"{step.time / 1e6:.4f}",
            "-" if step.cpu is None else str(step.cpu),
            escape(step.flow),
            step.function,
            step.operation,
            escape(step.owner),
            str(step.enabled),
        )
    return table


def _positions(positions: tuple[Position, ...]) -> Table:
    table = Table("flow", "cpu", "stands before", "of", "in", box=None, pad_edge=False)
    for position in positions:
        table.add_row(
            escape(position.flow),
            "-" if position.cpu is None else str(position.cpu),
            position.operation + ("" if position.ready else " (waits)"),
            escape(position.owner),
            " < ".join(position.stack),
        )
    return table


def _samples(result: Result) -> Table:
    table = Table("point", "dying cgroups", "child caches", "deactivated", "slab pages", box=None, pad_edge=False)
    for sample in result.samples:
        table.add_row(
            sample.point,
            str(sample.dying_cgroups),
            str(sample.child_caches),
            str(sample.deactivated),
            str(sample.slab_pages),
        )
    return table


class LiveProgress:
    """A line on standard error for runs that take longer than two seconds, if that is a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._started = self._shown = time.monotonic()
        self._status: Status | None = None

    def __call__(self, world: World) -> None:
        """Show how far *world* is, if it is time to."""
        self.show(f"{world.steps:,} steps, {world.now / 1e9:.3f} s of virtual time")

    def show(self, text: str) -> None:
        """Show *text*, if it is time to."""
        now = time.monotonic()
        if not self._console.is_terminal or now - self._started < QUIET_SECONDS or now - self._shown < REFRESH_SECONDS:
            return
        self._shown = now
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def close(self) -> None:
        """Take the line away."""
        if self._status is not None:
            self._status.stop()
