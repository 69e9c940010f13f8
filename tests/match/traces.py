"""The captured traces, traces of runs of the model, and edits of their text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import attrs

from actors.machine.context import Context
from actors.system.flow import Kind
from actors.system.strategy import Strategy
from actors.system.world import running_stack
from actors.versions.kernel_fn import FunctionTable, functions
from explorer.experiment import Experiment, RunOptions
from explorer.match.scope import CAPTURED, Function, make_scope
from explorer.match.search import SearchResult, Subject, make_subject, search
from protocol.formats.ftrace import parse_ftrace
from protocol.vocabulary import TODAY

DATA = Path(__file__).parents[1] / "data"
OWN_KERNEL = {"5.2.1": "original", "5.3.1": "5.3"}
STORIES = {"create": "traced-create", "rmdir-idle": "traced-rmdir-idle", "rmdir-held": "traced-rmdir-held"}
STORIES_TODAY = {
    **STORIES,
    "rmdir-idle-charges": "traced-rmdir-idle",
    "rmdir-late": "traced-rmdir-late",
    "rmdir-page": "traced-rmdir-page",
    "cache-destroy": "traced-cache-destroy",
}
HEAD = "# tracer: function\n#\n"


@attrs.frozen
class Capture:
    """One of the six captures: its Linux version, and its part of the program."""

    version: str
    story: str

    @property
    def path(self) -> Path:
        return DATA / f"ftrace-linux-{self.version}-{self.story}.txt"

    @property
    def kernel(self) -> str:
        return OWN_KERNEL[self.version]

    @property
    def scenario(self) -> str:
        return STORIES[self.story]

    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def __str__(self) -> str:
        return f"{self.version}-{self.story}"


CAPTURES = tuple(Capture(version, story) for version in OWN_KERNEL for story in STORIES)
REMOVALS = tuple(capture for capture in CAPTURES if capture.story != "create")


def subject(text: str, kernel: str, scenario: str, *, ignored: Iterable[str] = (), open_end: bool = False) -> Subject:
    """The subject of a search as `slabrace match` makes it."""
    trace = parse_ftrace(text.encode(), source="trace.txt")
    options = RunOptions(scenario=scenario, kernel=kernel, strategy="match", driver="stepper")
    return make_subject(options, trace, ignored=ignored, open_end=open_end)


def match(text: str, kernel: str, *scenarios: str, budget: int = 40, open_end: bool = False) -> SearchResult:
    """Search for a schedule that matches the text of a trace."""
    return search([subject(text, kernel, name, open_end=open_end) for name in scenarios], budget=budget)


# -- text -------------------------------------------------------------------------------------------------------------


def entry_lines(text: str) -> list[int]:
    """The indices of the lines that show a function entry."""
    return [index for index, line in enumerate(text.splitlines()) if " <-" in line]


def with_lines(lines: list[str]) -> str:
    """A trace of these lines, with their number in its header."""
    count = sum(not line.startswith("#") for line in lines)
    fixed = [re.sub(r"written: \d+/\d+", f"written: {count}/{count}", line) for line in lines]
    return "\n".join(fixed) + "\n"


def cut(text: str, index: int) -> str:
    """The trace without one of its lines, with a header that fits."""
    lines = text.splitlines()
    return with_lines(lines[:index] + lines[index + 1 :])


def swap(text: str, first: int, second: int) -> str:
    """The trace with the flows and functions of two lines exchanged; the timestamps stay."""
    lines = text.splitlines()
    lines[first], lines[second] = _exchange(lines[first], lines[second]), _exchange(lines[second], lines[first])
    return with_lines(lines)


STAMP = re.compile(r"(.*\]\s+\S{4}\s+)(\d+\.\d+)(: .*)")


def _exchange(stays: str, comes: str) -> str:
    stamp, other = STAMP.fullmatch(stays), STAMP.fullmatch(comes)
    assert stamp is not None, stays
    assert other is not None, comes
    return f"{other[1]}{stamp[2]}{other[3]}"


def flow_of(line: str) -> str:
    """Task, CPU and context of a line, which identify its flow."""
    task, cpu, flags = line.split()[:3]
    return f"{cpu} {flags[2]}" if flags[2] in "sh" else task


def function_of(line: str) -> str:
    return line.split()[4]


# -- traces of the model ----------------------------------------------------------------------------------------------


def shown_on(kernel: str, story: str, table: FunctionTable) -> dict[str, Function]:
    """The functions that a capture of this kernel and story would show, by their names there."""
    if kernel in TODAY:
        path = f"ftrace-linux-{kernel}-{story}.txt"
        return dict(make_scope(table, parse_ftrace((DATA / path).read_bytes(), source=path)).shown)
    captured = [functions()[name] for name in CAPTURED["creation" if story == "create" else "removal"]]
    return {bodies[0].name: function for function in captured if (bodies := table.bodies(function))}


def trace_of(kernel: str, story: str, strategy: Strategy, *, clock: Callable[[Context], int]) -> str:
    """The trace that a tracer would write for a run of the model; *clock* gives the microseconds.

    What no CPU runs in the model, but a kworker that is bound to none in the kernel, is left out.
    """
    options = RunOptions(scenario=STORIES_TODAY[story], kernel=kernel, check="off")
    experiment = Experiment.of(options)
    stage = experiment.set_stage(strategy)
    rows: list[str] = []

    def enter(name: str, ctx: Context) -> None:
        if stage.world.chooser is strategy and ctx.cpu is not None:
            callers = [code.co_name for code in running_stack(ctx)]
            rows.append(_row(ctx, name, callers[0] if callers else "process_one_work", clock(ctx)))

    table = stage.machine.functions
    shown = shown_on(kernel, story, table)
    stage.machine.functions = table.watched({function: partial(enter, name) for name, function in shown.items()})
    stage.start()
    experiment.drive(stage.world)
    return HEAD + "\n".join(rows) + "\n"


def _row(ctx: Context, name: str, caller: str, micros: int) -> str:
    assert ctx.cpu is not None
    task = {Kind.TASK: f"{ctx.name}-40", Kind.KWORKER: f"{ctx.name}-{10 + ctx.cpu.id}"}.get(ctx.kind, "<idle>-0")
    flags = {Kind.SOFTIRQ: "..s.", Kind.HARDIRQ: "d.h."}.get(ctx.kind, "....")
    return f"{task:>20} [{ctx.cpu.id:03}] {flags} {micros // 10**6:5}.{micros % 10**6:06}: {name} <-{caller}"
