"""An explanation as one HTML file: a grid of lanes and time to step through. No network, no library.

All text from a run is escaped: as HTML in the text, and as JSON without tags in the data for the script. The script
inserts text as text only, and the page's content security policy forbids loading anything.
"""

from __future__ import annotations

import html
import json
import re
from importlib import resources
from typing import TYPE_CHECKING, Any

from explorer.explain.text import sections, to_text
from explorer.streams import as_text

if TYPE_CHECKING:
    from explorer.explain.explanation import Explanation

MOST_STEPS = 3_000
"""Most steps drawn, the last ones of the run: browsers are slow with larger pages."""

_PLACE = re.compile(r"@@(\w+)@@")


def to_html(explanation: Explanation) -> str:
    """The page."""
    places = shown_places(explanation)
    lanes = list(dict.fromkeys(lane for place in places for lane in explanation.trace.steps[place].enabled))
    header, finding = explanation.header, explanation.finding
    parts = {
        "title": escape(finding.message),
        "subtitle": escape(f"{finding.signature} · {header.scenario} on {header.kernel} · slabrace {header.slabrace}"),
        "style": page_part("page.css"),
        "script": page_part("page.js"),
        "count": str(len(lanes)),
        "heads": "".join(f'<span style="grid-column:{3 + n}">{escape(lane)}</span>' for n, lane in enumerate(lanes)),
        "rows": "\n".join(row(explanation, place, lanes) for place in places),
        "jumps": "\n".join(jumps(explanation)),
        "sections": "\n".join(section(*part) for part in sections(explanation)[1:]),
        "text": escape(to_text(explanation)),
        "data": data([step_data(explanation, place) for place in places]),
    }
    return _PLACE.sub(lambda match: parts[match[1]], page_part("page.html"))


def escape(text: str) -> str:
    """*text* escaped for HTML, with control characters made visible."""
    return html.escape("\n".join(map(as_text, text.split("\n"))))


def page_part(name: str) -> str:
    """One of the files that make up the page."""
    return resources.files("explorer.explain").joinpath("page", name).read_text(encoding="utf-8")


def shown_places(explanation: Explanation) -> list[int]:
    """The places of all steps, or of the last `MOST_STEPS`."""
    count = len(explanation.trace.steps)
    return list(range(max(0, count - MOST_STEPS), count))


def row(explanation: Explanation, place: int, lanes: list[str]) -> str:
    """One step: its action in the column of its lane, and a dot for each other lane that could have stepped."""
    step = explanation.trace.steps[place]
    could = "".join(
        f'<i class="could" style="grid-column:{3 + lanes.index(lane)}" title="{escape(lane)} could step">·</i>'
        for lane in step.enabled
        if lane != step.lane
    )
    what = f"{step.function}: {step.operation}" + (f" of {step.owner}" if step.owner else "")
    star = "*" if explanation.deviates[place] else ""
    return (
        f'<div class="{" ".join(["row", *classes(explanation, place)])}" role="option" aria-selected="false" '
        f'id="step-{step.number}"><span class="number">{step.number}</span><span class="star">{star}</span>'
        f'<b class="step" style="grid-column:{3 + lanes.index(step.lane)}" title="{escape(what)}">{escape(what)}</b>'
        f"{could}</div>"
    )


def classes(explanation: Explanation, place: int) -> list[str]:
    """The CSS classes of a step's row."""
    notes = explanation.notes.get(place, [])
    found = ["matter"] if place in explanation.important else []
    found += ["conflict"] if any(note.startswith("conflict") for note in notes) else []
    return found + (["finding"] if any(note.startswith("finding") for note in notes) else [])


def jumps(explanation: Explanation) -> list[str]:
    """Buttons that jump to the conflict, the first difference and the finding."""
    conflict, difference, steps = explanation.conflict, explanation.difference, explanation.trace.steps
    found: list[tuple[str, int]] = []
    if conflict is not None:
        found += [("conflict: first", conflict.first), ("conflict: second", conflict.second)]
    if difference is not None and difference.here is not None:
        found.append(("first difference", difference.at))
    if steps:
        found.append(("finding", len(steps) - 1))
    return [
        f'<button type="button" data-step="step-{steps[place].number}">{escape(title)}</button>'
        for title, place in found
    ]


def section(title: str, lines: list[str]) -> str:
    """One section of the report below the grid."""
    return f"<h2>{escape(title)}</h2>\n<pre>{chr(10).join(map(escape, lines))}</pre>"


def step_data(explanation: Explanation, place: int) -> dict[str, Any]:
    """The data that the page shows for a selected step."""
    step, detail = explanation.trace.steps[place], explanation.details[place]
    return {
        "number": step.number,
        "time": step.time,
        "lane": step.lane,
        "cpu": step.cpu,
        "function": step.function,
        "operation": step.operation,
        "owner": step.owner,
        "values": step.values,
        "enabled": step.enabled,
        "aheadOf": detail.plain if explanation.deviates[place] else "",
        "stack": detail.stack[::-1],
        "woken": [f"{how} {lane}" for lane, how in detail.woken.items()],
        "counts": [f"{name}: {number} {what}" for name, (what, number) in detail.counts.items()],
        "notes": explanation.notes.get(place, []),
    }


def data(value: object) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
