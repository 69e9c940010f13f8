"""The sequence diagram. Mermaid's own parser accepted diagrams that pass these tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from explorer.cli import main
from explorer.explain import Explanation
from explorer.explain.mermaid import MOST_MESSAGES, escape, to_mermaid
from tests.explain.stages import NASTY, explain_free, nasty_names

SAFE = r"(?:[\w \-.,:/()*'=]|#\d+;|<br/>)+"
PARTICIPANT = re.compile(rf"    participant (p\d+) as {SAFE}")
MESSAGE = re.compile(rf"    (p\d+)->>(p\d+): {SAFE}")
NOTE = re.compile(rf"    Note over (p\d+)(?:,(p\d+))?: {SAFE}")


def check(text: str) -> tuple[list[str], list[str], list[str]]:
    """Check every line against the used part of Mermaid's grammar; return participants, messages, notes."""
    head, *lines = text.splitlines()
    assert head == "sequenceDiagram"
    participants = [match[1] for line in lines if (match := PARTICIPANT.fullmatch(line))]
    messages = [match for line in lines if (match := MESSAGE.fullmatch(line))]
    notes = [match for line in lines if (match := NOTE.fullmatch(line))]
    assert len(participants) + len(messages) + len(notes) == len(lines), text
    used = {name for match in (*messages, *notes) for name in match.groups() if name}
    assert used == set(participants)
    assert len(set(participants)) == len(participants)
    return participants, [match[0] for match in messages], [match[0] for match in notes]


def test_the_diagram_has_the_lanes_and_the_owner_and_the_notes(explanation: Explanation) -> None:
    text = to_mermaid(explanation)
    _, messages, notes = check(text)

    for name in ("user", "freer", "box"):
        assert f" as {name}\n" in text
    assert any("box_free: write" in message for message in messages)
    assert any("conflict: first" in note for note in notes)
    assert any("the other way round: nothing found" in note for note in notes)
    assert explanation.finding.signature in notes[-1]


def test_names_are_escaped() -> None:
    text = to_mermaid(explain_free(nasty_names))

    check(text)
    assert escape(NASTY) in text
    assert "<script>" not in text


@pytest.mark.parametrize("text", ["end", "END of", "a;b", "a#b", "<b>", "a\nb", '"', "%%", "{x}", "→"])
def test_nothing_special_is_left_of_a_name(text: str) -> None:
    assert re.fullmatch(SAFE, escape(text))
    assert not re.search(r"\bend\b", escape(text), re.IGNORECASE)


def test_there_are_at_most_forty_messages(canary_log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mmd"
    assert main(["explain", str(canary_log), "--format", "mermaid", "--out", str(out)]) == 1

    _, messages, _ = check(out.read_text(encoding="utf-8"))

    assert 0 < len(messages) <= MOST_MESSAGES
