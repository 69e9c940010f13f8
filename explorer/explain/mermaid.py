"""An explanation as a Mermaid sequence diagram of the requests around the failure."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import attrs

from explorer.explain.text import others_in_words

if TYPE_CHECKING:
    from explorer.explain.explanation import Explanation
    from explorer.trace import TracedStep

MOST_MESSAGES = 40
MOST_OWNERS = 10
"""Most messages, and most owners with lifelines; requests to other owners are drawn on the lane itself."""

_PLAIN = re.compile(r"[^\w \-.,:/()*'=]", re.ASCII)
_KEYWORD = re.compile(r"\bend\b", re.IGNORECASE)


def escape(text: str) -> str:
    """*text* escaped for Mermaid: every character with a possible meaning becomes a character code."""
    text = _PLAIN.sub(lambda match: f"#{ord(match[0])};", text.replace("\n", " "))
    return _KEYWORD.sub(lambda match: f"#{ord(match[0][0])};{match[0][1:]}", text)


@attrs.define
class Lifelines:
    """The lifelines by name, in the order of their first use."""

    owners: frozenset[str]
    ids: dict[str, str] = attrs.field(factory=dict)

    def of(self, name: str) -> str:
        """The id of *name*."""
        return self.ids.setdefault(name, f"p{len(self.ids)}")

    def receiver(self, step: TracedStep) -> str:
        """The lifeline that receives the message of *step*."""
        return self.of(step.owner if step.owner in self.owners else step.lane)


def to_mermaid(explanation: Explanation) -> str:
    """The diagram."""
    places = shown_places(explanation)
    steps = explanation.trace.steps
    lifelines = Lifelines(shown_owners(explanation, places))
    body: list[str] = []
    for place in places:
        body.append(message(lifelines, steps[place], is_ahead=explanation.deviates[place]))
        body += notes(explanation, lifelines, place)
    body.append(finding_note(explanation, lifelines))
    participants = [f"participant {key} as {escape(name)}" for name, key in lifelines.ids.items()]
    return "\n".join(["sequenceDiagram", *(f"    {line}" for line in (*participants, *body))]) + "\n"


def shown_places(explanation: Explanation) -> list[int]:
    """The steps with notes, and the latest of the other steps that matter."""
    noted = sorted(explanation.notes, reverse=True)[:MOST_MESSAGES]
    others = [place for place in reversed(explanation.important) if place not in noted]
    return sorted([*noted, *others][:MOST_MESSAGES])


def shown_owners(explanation: Explanation, places: list[int]) -> frozenset[str]:
    """The owners with lifelines: first the owners of steps with notes, then the most requested ones."""
    steps = explanation.trace.steps
    counts = Counter(steps[place].owner for place in places if steps[place].owner)
    noted = {steps[place].owner for place in explanation.notes}
    return frozenset(sorted(counts, key=lambda owner: (owner not in noted, -counts[owner], owner))[:MOST_OWNERS])


def message(lifelines: Lifelines, step: TracedStep, *, is_ahead: bool) -> str:
    """One arrow."""
    sender, receiver = lifelines.of(step.lane), lifelines.receiver(step)
    what = f"{'* ' if is_ahead else ''}{step.number} {step.function}: {step.operation}"
    if step.owner and step.owner not in lifelines.owners:
        what += f" of {step.owner}"
    return f"{sender}->>{receiver}: {escape(what)}"


def notes(explanation: Explanation, lifelines: Lifelines, place: int) -> list[str]:
    """The notes on the step at *place*."""
    step = explanation.trace.steps[place]
    over = ",".join(dict.fromkeys((lifelines.of(step.lane), lifelines.receiver(step))))
    lines = [escape(note) for note in explanation.notes.get(place, ()) if not note.startswith("finding")]
    conflict = explanation.conflict
    if conflict is not None and place == conflict.second:
        lines.append(escape(f"the other way round: {others_in_words(conflict)}"))
    return [f"Note over {over}: {'<br/>'.join(lines)}"] if lines else []


def finding_note(explanation: Explanation, lifelines: Lifelines) -> str:
    """The final note with the finding, over its flow, or over all lifelines."""
    finding = explanation.finding
    ids = list(lifelines.ids.values()) or [lifelines.of("the machine")]
    over = lifelines.ids.get(finding.flow) or ",".join(dict.fromkeys((ids[0], ids[-1])))
    text = "<br/>".join(map(escape, (finding.message, finding.signature)))
    return f"Note over {over}: {text}"
