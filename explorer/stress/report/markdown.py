"""The report as a screen of Markdown (GitHub's flavour), for the summary of a CI.

Names come from users' files. All of them stand in code, where nothing is markup, a reference or a mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from explorer.streams import as_text
from explorer.stress.queries import Row, is_new
from explorer.stress.report.facts import Facts
from explorer.stress.report.page import label

MOST_NEW, MOST_OTHERS = 5, 30
LONGEST_NAME = 160


def to_markdown(facts: Facts) -> str:
    """The text."""
    return "\n".join(_lines(facts)) + "\n"


def _lines(facts: Facts) -> Iterator[str]:
    yield f"### slabrace stress: {facts.headline}"
    if facts.summary is None:
        return
    for cause in facts.new[:MOST_NEW]:
        yield from _cause_lines(facts, cause)
    if len(facts.new) > MOST_NEW:
        yield f"\nand {len(facts.new) - MOST_NEW} more new causes: {code(f'slabrace bugs {facts.store}')}"
    yield ""
    yield _figures(facts.summary)
    others = [code(label(one)) for one in facts.causes if one["sightings"] and not is_new(one)]
    if others:
        left_out = f" and {len(others) - MOST_OTHERS} more" if len(others) > MOST_OTHERS else ""
        yield f"\nNot new: {', '.join(others[:MOST_OTHERS])}{left_out}"


def _cause_lines(facts: Facts, cause: Row) -> Iterator[str]:
    yield ""
    places = f"{cause['cells']:,} cell{'s' if cause['cells'] != 1 else ''} of {code(', '.join(cause['scenarios']))}"
    yield f"**New cause {cause['id']}**: {code(cause['cause'])}, seen {cause['sightings']:,} times in {places}"
    witness = facts.witnesses.get(cause["id"])
    if witness is not None:
        lines = [as_text(witness.finding.message), *witness.commands[:1]]
        fence = "`" * max(3, longest_run(lines) + 1)
        yield from ("", f"{fence}text", *lines, fence)


def _figures(summary: Row) -> str:
    chance = summary["chance_of_new_class"]
    about = "" if summary["trace_classes_exact"] else "about "
    parts = [
        f"{summary['seconds']:,.0f} s, epochs: {summary['epochs']:,}",
        f"{about}{summary['trace_classes']:,} trace classes",
        *([] if chance is None else [f"the next draw is of a new one with {chance:.2%}"]),
        f"gaps: {summary['gaps']:,}",
        f"properties never reached: {summary['unreached']}",
        *bold("lost jobs", summary["lost_jobs"]),
        *bold("closed cells", summary["closed_cells"]),
    ]
    return "; ".join(parts) + "."


def bold(what: str, number: int) -> list[str]:
    """A number that should be zero, if it is not."""
    return [f"**{what}: {number:,}**"] if number else []


def code(text: str) -> str:
    """*text* as a code span, cut if it is long."""
    line = as_text(text)
    line = line if len(line) <= LONGEST_NAME else f"{line[:LONGEST_NAME]}…"
    fence = "`" * (longest_run([line]) + 1)
    pad = " " if line.startswith(("`", " ")) or line.endswith(("`", " ")) else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def longest_run(lines: list[str]) -> int:
    """The length of the longest run of backticks."""
    return max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
