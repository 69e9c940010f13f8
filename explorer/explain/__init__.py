"""Explanations of failing runs: the steps that matter, the racing pair that decides, and pictures of the run.

Reading order: `explanation` (all facts about a finding), `conflict` (the racing pair that decides), `rows` (the table
of steps), and then the formats: `text`, `as_json`, `mermaid`, `perfetto`, `html`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from explorer.explain.explanation import Explanation, NotReproducedError, explain_log, explain_schedule
from explorer.explain.html import to_html
from explorer.explain.mermaid import to_mermaid
from explorer.explain.perfetto import to_perfetto
from explorer.explain.text import show_explanation, to_text

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "FORMATS",
    "Explanation",
    "NotReproducedError",
    "explain_log",
    "explain_schedule",
    "show_explanation",
    "to_text",
]

FORMATS: dict[str, Callable[[Explanation], str]] = {
    "text": to_text,
    "mermaid": to_mermaid,
    "perfetto": lambda explanation: json.dumps(to_perfetto(explanation), allow_nan=False) + "\n",
    "html": to_html,
}
"""The formats of an explanation by name; each function makes a whole file."""
