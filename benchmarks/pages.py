"""Tables that benchmarks write into pages of docs/, between two markers; the rest of a page stays as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from protocol.atomic import write_file
from protocol.errors import UsageError

DOCS = Path(__file__).parents[1] / "docs"
PERFORMANCE = DOCS / "performance.md"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; the first column is text, the others are figures."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]


def put_between_markers(path: Path, name: str, lines: Iterable[str]) -> None:
    """Replace the text of the page between `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = path.read_text(encoding="utf-8")
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        msg = f"{path}: there is no place for {name}: it lacks {begin} and {end}"
        raise UsageError(msg)
    write_file(path, "\n".join([before + begin, "", *lines, "", end + after]), overwrite=True)
