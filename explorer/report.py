"""Text for people: the knobs before a run, the result after it, and findings as the kernel would print them."""

from __future__ import annotations

import time
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any, TypeGuard

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from explorer.streams import as_text, shell_word
from protocol.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from actors.system.world import World
    from explorer.session import Position, Result, TailStep
    from protocol.records import CodeRecord, Header
    from scenarios.stage import Operation

QUIET_SECONDS = 2.0
REFRESH_SECONDS = 0.2

WIDEST = 100_000
"""Console width in characters; wider than any line that is printed."""


class PlainConsole(Console):
    """A console that prints strings literally, each as one printable line; brackets are not markup.

    Nothing is wrapped or cut off, so names and command lines can be copied whole; the terminal wraps long lines.
    Control characters are escaped, so text from files is safe to print. Coloured text is made with `styled`.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        super().__init__(
            file=file,
            color_system="auto" if file is None else None,
            width=WIDEST,
            height=1,  # unused, but without it rich gives a dumb terminal 80 columns
            markup=False,
            emoji=False,
            highlight=False,
        )

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape a string before it is rendered, here and in tables."""
        return super().render_str(as_text(text), **options)

    def print(self, *lines: Any, **options: Any) -> None:
        """Print *lines*, one below another."""
        super().print(*lines, **{"sep": "\n", "soft_wrap": True, **options})


def make_console() -> Console:
    """A console for standard output."""
    return PlainConsole()


def styled(*parts: str | tuple[str, str]) -> Text:
    """One line; a part that is a pair is a text with its style."""
    return Text.assemble(*(as_text(part) if isinstance(part, str) else (as_text(part[0]), part[1]) for part in parts))


def is_file_text(value: object) -> TypeGuard[str]:
    """Whether the value of a parameter is the text of a whole file, which reports leave out."""
    return isinstance(value, str) and "\n" in value


def show_header(console: Console, header: Header, driver: str) -> None:
    """Print the knobs and the seed, before the first step."""
    knobs = " ".join(
        f"{name}={f'<{len(value)} characters>' if is_file_text(value) else value}"
        for name, value in header.parameters.items()
    )
    about = (
        f" on {header.kernel}: strategy {header.strategy}, seed {header.seed}, "
        f"driver {driver}, check {header.check}, slabrace {header.slabrace}"
    )
    console.print(styled((header.scenario, "bold"), about), f"  {knobs}")
    of_scenario = [] if header.scenario_code is None else [header.scenario_code]
    kinds: dict[str, Sequence[CodeRecord]] = {
        "scenario": of_scenario,
        "patch": header.patches,
        "oracle": header.oracles,
    }
    for kind, code in kinds.items():
        for each in code:
            where = f" ({each.path}, sha256 {each.sha256[:12]})" if each.path else ""
            console.print(f"  {kind} {each.name}{where}")
    for name in header.without:
        console.print(f"  without {name}")
    if header.faults:
        console.print("  faults " + " ".join(f"{name}={probability}" for name, probability in header.faults.items()))


def show_result(console: Console, result: Result) -> None:
    """Print the result: every finding, the verdict, and the final figures."""
    if result.program:
        console.print(*program_lines(result.program))
    if result.samples:
        console.print(_samples(result))
    final = "  ".join(f"{name} {value}" for name, value in result.final.items())
    console.print(f"{result.steps} steps in {result.seconds:.2f} s; digest {result.digest}", f"  {final}")
    for finding, before in zip(result.findings, result.before, strict=False):
        show_finding(console, finding, before)
    for name in result.unreached:
        console.print(styled(("never reached", "yellow"), f": sometimes {name!r}: this schedule did not try the race"))
    if result.positions and not result.findings:
        console.print(_positions(result.positions))
    console.print(*_verdict(result))


def program_lines(program: Iterable[Operation]) -> Iterator[str]:
    """A generated workload: a line for each task, with the number and the outcome of each of its operations."""
    for task, operations in groupby(program, lambda operation: operation.task):
        words = (f"{one.number} {one.words}{_outcome(one)}" for one in operations)
        yield f"  {task}: {'; '.join(words)}"


def _outcome(operation: Operation) -> str:
    return "" if operation.outcome == "done" else f" ({operation.outcome or 'not ended'})"


def _verdict(result: Result) -> list[str | Text]:
    if result.divergence is not None:
        return [
            styled(("diverged", "red"), f" at step {result.divergence.step}"),
            f"  then: {result.divergence.then}",
            f"  now:  {result.divergence.now}",
            "  the kernel, its patches or the scenario are not those that were recorded",
        ]
    if result.findings:
        return [styled((f"{len(result.findings)} finding{'s' if len(result.findings) > 1 else ''}", "red"))]
    if result.outcome == "interrupted":
        return [styled(("interrupted", "yellow"), f" after step {result.steps}")]
    if result.stopped != "quiescent":
        return [f"stopped after step {result.steps} ({result.stopped}): nothing found up to here"]
    return [styled(("ok", "green"), ": nothing found")]


def show_replay_line(console: Console, result: Result, *, relaid: bool = False) -> None:
    """Print the log's path, and the command that replays it; with all patches, if *relaid* ones replace the log's."""
    if result.log is not None:
        line = f"slabrace replay {as_arguments(result.log, result.header, relaid=relaid)}"
        console.print(f"log: {result.log}", f"replay: {line}")


def as_arguments(log: Path | str, header: Header, *, relaid: bool = False) -> str:
    """A log as arguments of a command: with the files of its code, which run only if they are named again."""
    words = [shell_word(log)]
    if header.scenario_code is not None:
        words += ["--scenario", shell_word(reference_to(header.scenario_code))]
    options: dict[str, Sequence[CodeRecord]] = {"--patch": header.patches, "--oracle": header.oracles}
    for option, several in options.items():
        for code in several:
            words += [option, shell_word(reference_to(code))] if relaid or code.is_code else []
    return " ".join(words)


def reference_to(code: CodeRecord) -> str:
    """The reference to *code* on the command line."""
    return code.path + f":{code.member}" * bool(code.member) if code.path else code.name


def show_finding(console: Console, finding: Finding, before: tuple[TailStep, ...]) -> None:
    """Print one finding as the kernel would: message, place and flow; then the steps that led to it."""
    where = f"{finding.flow} on CPU {finding.cpu}" if finding.cpu is not None else finding.flow or "the machine at rest"
    console.print(
        "------------[ cut here ]------------",
        styled((finding.message, "bold red")),
        f"{finding.kind}{f' in {finding.function}()' if finding.function else ''}, step {finding.step}, "
        f"{finding.time / 1e6:.3f} ms" + (f", {finding.count} times" if finding.count > 1 else ""),
        f"flow: {where}",
        *([f"what has to hold: {finding.meaning}"] if finding.meaning else []),
        *finding.details,
    )
    if finding.stack:
        console.print("Call Trace:", *(f" {name}" for name in finding.stack))
    if before:
        console.print(_steps(before))
    console.print(f"signature: {finding.signature}", "---[ end trace ]---")


def _steps(steps: tuple[TailStep, ...]) -> Table:
    table = Table("step", "ms", "cpu", "flow", "function", "operation", "of", "enabled", box=None, pad_edge=False)
    for step in steps:
        table.add_row(
            str(step.number),
            f"{step.time / 1e6:.4f}",
            "-" if step.cpu is None else str(step.cpu),
            step.flow,
            step.function,
            step.operation,
            step.owner,
            str(step.enabled),
        )
    return table


def _positions(positions: tuple[Position, ...]) -> Table:
    table = Table("flow", "cpu", "stands before", "of", "in", box=None, pad_edge=False)
    for position in positions:
        table.add_row(
            position.flow,
            "-" if position.cpu is None else str(position.cpu),
            position.operation + ("" if position.ready else " (waits)"),
            position.owner,
            " < ".join(position.stack),
        )
    return table


def _samples(result: Result) -> Table:
    table = Table(*result.samples[0].cells(), box=None, pad_edge=False)
    for sample in result.samples:
        table.add_row(*sample.cells().values())
    return table


class LiveProgress:
    """A progress line on standard error, if that is a terminal, for runs of more than two seconds."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._started = self._shown = time.monotonic()
        self._status: Status | None = None

    def __call__(self, world: World) -> None:
        """Show the progress of *world*, if the line is due."""
        self.show(f"{world.steps:,} steps, {world.now / 1e9:.3f} s of virtual time")

    def show(self, text: str) -> None:
        """Show *text*, if the line is due."""
        now = time.monotonic()
        if not self._console.is_terminal or now - self._started < QUIET_SECONDS or now - self._shown < REFRESH_SECONDS:
            return
        self._shown = now
        if self._status is None:
            self._status = self._console.status("", spinner="line")  # an ASCII spinner
            self._status.start()
        self._status.update(Text(as_text(text)))

    def close(self) -> None:
        """Remove the line."""
        if self._status is not None:
            self._status.stop()
