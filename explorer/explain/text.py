"""An explanation as text: the finding as the kernel would print it, the steps that matter, the conflict, the proof."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from explorer.explain.rows import StepRow, rows_of
from explorer.explain.swaps import Way
from explorer.report import PlainConsole, as_arguments, show_finding, show_header, styled

if TYPE_CHECKING:
    from rich.console import Console

    from explorer.explain.conflict import Conflict
    from explorer.explain.difference import Difference
    from explorer.explain.explanation import Explanation
    from explorer.trace import TracedStep

GAP = "  "
HEADINGS = ("", "step", "cpu", "flow", "function", "operation", "of", "")
GO_ON = "go on"
LONG = 80
"""With more steps that matter than this, the text recommends to shrink the run."""


def to_text(explanation: Explanation, *, brief: bool = False) -> str:
    """The explanation without colours, for files and test reports."""
    out = io.StringIO()
    show_explanation(PlainConsole(out), explanation, brief=brief)
    return out.getvalue()


def show_explanation(console: Console, explanation: Explanation, *, brief: bool = False) -> None:
    """Print the explanation; `brief`: only the steps with notes, and the first conflict."""
    show_header(console, explanation.header, "stepper and trio")
    show_finding(console, explanation.finding, ())
    for title, lines in sections(explanation, brief=brief):
        console.print("", styled((title, "bold")), *(f"  {line}" for line in lines))


def sections(explanation: Explanation, *, brief: bool = False) -> list[tuple[str, list[str]]]:
    """The sections after the finding, each with its title."""
    trace = explanation.trace
    title = (
        f"{len(explanation.important)} of {len(trace.steps)} steps of the race matter (numbered from 0, as in the log; "
        "* ran ahead of its turn)"
    )
    return [
        (title, table_lines(explanation, brief=brief)),
        *([("the cause", list(explanation.cause))] if explanation.cause else []),
        ("the conflict", conflict_lines(explanation, brief=brief)),
        ("first difference from a run that passes", difference_lines(explanation)),
        ("reproduced", [reproduced_line(explanation)]),
        (GO_ON, further_lines(explanation)),
    ]


def table_lines(explanation: Explanation, *, brief: bool = False) -> list[str]:
    """The steps that matter; `*` marks steps that deviate from the non-preemptive order."""
    lines: list[tuple[str, ...] | str] = [HEADINGS]
    for row in rows_of(explanation):
        if brief and not (isinstance(row, StepRow) and row.notes):
            continue
        if isinstance(row, StepRow):
            step = row.step
            lines.append(("*" if row.ahead_of else "", str(step.number), *cells_of(step), remark(row)))
        else:
            lines.append(row.in_words)
    widths = [max(len(line[column]) for line in lines if not isinstance(line, str)) for column in range(len(HEADINGS))]
    indent = " " * (widths[0] + widths[1] + 2 * len(GAP))
    return [
        f"{indent}… {line}"
        if isinstance(line, str)
        else GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def cells_of(step: TracedStep) -> tuple[str, str, str, str, str]:
    """CPU, flow, function, operation and owner."""
    cpu = "-" if step.cpu is None else str(step.cpu)
    operation = step.operation + (f" = {', '.join(map(str, step.values))}" if step.values else "")
    return cpu, step.lane, step.function, operation, step.owner


def remark(row: StepRow) -> str:
    """The text after a step."""
    ahead = [f"ran ahead of {row.ahead_of}"] if row.ahead_of else []
    return "; ".join([*(f"<- {note}" for note in row.notes), *ahead])


def describe(step: TracedStep) -> str:
    """One step in a sentence."""
    where = "" if step.cpu is None else f" on CPU {step.cpu}"
    return f"{step.lane}{where} in {step.function}(): {step.operation}" + (f" of {step.owner}" if step.owner else "")


def conflict_lines(explanation: Explanation, *, brief: bool = False) -> list[str]:
    """The racing pairs that the flaw depends on, the cause first, with the results of both orders."""
    conflicts = explanation.conflicts
    if not conflicts.found:
        return [why_no_conflict(explanation)]
    lines = [
        f"{'' if at else f'{number}. '}{line}".rjust(len(line) + len(GAP) + 1)
        for number, conflict in enumerate(conflicts.found[:1] if brief else conflicts.found, 1)
        for at, line in enumerate(pair_lines(explanation, conflict))
    ]
    more = ", not all there are" if conflicts.is_cut_off else ""
    if brief and len(conflicts.found) > 1:
        lines.append(f"and {len(conflicts.found) - 1} more of such pairs")
    return [*lines, f"found by running the schedule again with two steps swapped: {conflicts.runs} runs{more}"]


def pair_lines(explanation: Explanation, conflict: Conflict) -> list[str]:
    """One racing pair, with the results of both orders."""
    one, other = (explanation.trace.steps[place] for place in (conflict.first, conflict.second))
    here = short_name(one), short_name(other)
    by = "" if conflict.way is Way.MOVED else f" ({conflict.way.value})"
    return [
        f"{conflict.thing}: {conflict.nearness.in_words}",
        f"step {one.number}: {describe(one)} ({conflict.how[0]} it)",
        f"step {other.number}: {describe(other)} ({conflict.how[1]} it)",
        f"{here[0]} before {here[1]}: {explanation.finding.signature}",
        f"{here[1]} before {here[0]}{by}: {others_in_words(conflict)}",
    ]


def others_in_words(conflict: Conflict) -> str:
    """The result of the swapped run."""
    return f"not this, but {'; '.join(conflict.others)}" if conflict.others else "nothing found"


def why_no_conflict(explanation: Explanation) -> str:
    """Why there is no conflict."""
    if explanation.needs_timing:
        return "the flaw hangs on the virtual time of the log: its steps cannot be put in another order"
    if explanation.plain_shows_it:
        return "it needs no race: the non-preemptive order, in which each lane goes on as long as it can, shows it, too"
    why = "no pair of racing steps was found whose other order does not show it"
    return why if explanation.header.strategy == "shrunk" else f"{why}; `slabrace shrink` may leave one"


def short_name(step: TracedStep) -> str:
    """A step as one side of an order."""
    return f"{step.lane}'s {step.operation} in {step.function}()"


def difference_lines(explanation: Explanation) -> list[str]:
    """The first difference between the run and one that passes."""
    difference = explanation.difference
    if difference is None:
        return ["none of the runs that were made passes"]
    step = difference.here or difference.there
    assert step is not None, "where two runs diverge, one of them has a step"
    return [
        f"{difference.which} is the same up to step {step.number}; then",
        f"here:  {end_or_step(difference, is_here=True)}",
        f"there: {end_or_step(difference, is_here=False)}",
    ]


def end_or_step(difference: Difference, *, is_here: bool) -> str:
    """The step of one of the two runs where they diverge."""
    step = difference.here if is_here else difference.there
    return "nothing more" if step is None else describe(step)


def reproduced_line(explanation: Explanation) -> str:
    """The number of runs that showed the flaw, by driver."""
    total = sum(explanation.reproduced.values())
    parts = ", ".join(f"{count} on {driver}" for driver, count in explanation.reproduced.items())
    return f"{total}/{explanation.runs} ({parts})"


def further_lines(explanation: Explanation) -> list[str]:
    """The next commands, for copying."""
    if explanation.log is None:
        return ["there is no log of this run"]
    log = as_arguments(explanation.log, explanation.header)
    lines = [f"replay: slabrace replay {log}", f"keep:   slabrace keep {log}"]
    if len(explanation.important) > LONG:
        lines.append(f"shorter, and easier to read: slabrace shrink {log}")
    return lines
