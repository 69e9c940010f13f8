"""The consoles of the documentation: their commands are run again, and the output is compared or updated.

A block of a page that is marked `console` shows commands (`$ slabrace ...`) with their output. `...` on a line of its
own stands for any number of lines; within a line it stands for any text. Seconds and rates are not compared. The blocks
of a page are run one after the other in an empty folder, with the repository's `tests` in it. Lines of standard error
that begin with `slabrace:` are shown after the standard output.

A comment just before a block is invisible on the page. Its first line is `console`; the other lines are options, in any
order:

    <!-- console
    slow
    LOG=runs/one.log
    $ slabrace run canary --log runs/one.log
    -->

`slow`: the block takes long, and only the slow tests run it. `NAME=TEXT`: the value of a name in the commands.
`$ command`: a shell command that is run before the block and not shown. Before a block in another language the comment
is `file NAME`, and the block is written to this file; or `output COMMAND`, and the block is the output of this command,
for example a diagram. A block that shows commands without output is not run.

`python -m tests.docs.consoles [--slow] [PAGE...]` updates the pages: each line is replaced by its present text, and
omitted lines are omitted again.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from tests.tidy.sources import ROOT

ELISION = "..."
BLOCK = re.compile(
    r"(?:^<!-- console\n(?P<options>(?:(?!-->)[^\n]*\n)*?)-->\n+)?"
    r"^```(?P<language>[\w-]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
FILE = re.compile(r"^file (\S+)$", re.MULTILINE)
OUTPUT = re.compile(r"^output (.+)$", re.MULTILINE)
MASKS = (
    (re.compile(r"\b\d+(?:\.\d+)? s\b"), "N s"),
    (re.compile(r"\b\d+(?:\.\d+)?/s\b"), "N/s"),
)
FINE = frozenset({0, 1, 4, 130})
"""Exit codes of commands that worked as intended."""


@attrs.define
class Shown:
    """A command and the output that a page shows for it."""

    command: str
    lines: list[str] = attrs.field(factory=list)


@attrs.define
class Block:
    """A block of a page: the place of its text, and its options. `file`: the file that it is written to.

    `is_output`: the block shows the output of its only command, without the command.
    """

    begin: int
    end: int
    text: str
    line: int
    shown: list[Shown] = attrs.field(factory=list)
    is_slow: bool = False
    names: dict[str, str] = attrs.field(factory=dict)
    before: list[str] = attrs.field(factory=list)
    file: str = ""
    is_output: bool = False

    def __str__(self) -> str:
        if self.is_output:
            return "".join(f"{line}\n" for shown in self.shown for line in shown.lines)
        return "\n".join(line for shown in self.shown for line in (f"$ {shown.command}", *shown.lines)) + "\n"

    @property
    def is_run(self) -> bool:
        """Whether the block shows output, which has to be compared."""
        return any(shown.lines for shown in self.shown)


def pages() -> list[Path]:
    """The pages with consoles."""
    return [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if blocks_of(path)]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page that are run, and the files that they need."""
    found = list(read_blocks(page.read_text(encoding="utf-8")))
    return found if any(block.is_run for block in found) else []


def read_blocks(text: str) -> Iterator[Block]:
    """The blocks of a page's text that are consoles or files."""
    for match in BLOCK.finditer(text):
        options = match["options"] or ""
        block = Block(
            match.start("text"), match.end("text"), match["text"], text.count("\n", 0, match.start("text")) + 1
        )
        named = FILE.search(options)
        if named is not None:
            block.file = named[1]
            yield block
        elif printed := OUTPUT.search(options):
            read_options(block, options.replace(printed[0], ""))
            block.is_output = True
            block.shown = [Shown(printed[1], block.text.splitlines())]
            yield block
        elif match["language"] == "console":
            read_options(block, options)
            read_shown(block)
            yield block


def read_options(block: Block, options: str) -> None:
    """Read the options in the comment before the block."""
    for line in filter(None, options.splitlines()):
        name, equals, value = line.partition("=")
        if line == "slow":
            block.is_slow = True
        elif line.startswith("$ "):
            block.before.append(line[2:])
        elif equals and name.isidentifier():
            block.names[name] = value
        else:
            msg = f"line {block.line}: {line!r} means nothing before a console"
            raise ValueError(msg)


def read_shown(block: Block) -> None:
    """Read the commands of a block, with the output that it shows for each."""
    for line in block.text.splitlines():
        if line.startswith("$ "):
            block.shown.append(Shown(line[2:]))
        elif block.shown:
            block.shown[-1].lines.append(line)
        else:
            msg = f"line {block.line}: output without a command"
            raise ValueError(msg)


# -- running ----------------------------------------------------------------------------------------------------------


def run_block(block: Block, folder: Path) -> list[list[str]]:
    """Run the block in *folder*; return the output of each command."""
    for command in block.before:
        run_command(command, folder)
    return [run_command(with_names(shown.command, block.names), folder) for shown in block.shown]


def with_names(command: str, names: dict[str, str]) -> str:
    """The command with the values of its names; `LOG.short.log` is the short log of `LOG`."""
    for name, text in names.items():
        command = re.sub(rf"\b{name}\.short\.log\b", text.removesuffix(".log") + ".short.log", command)
        command = re.sub(rf"(?<![\w/.-]){name}\b", text, command)
    return command


def run_command(command: str, folder: Path) -> list[str]:
    """The lines that a command prints; AssertionError if the command failed."""
    environment = {
        **{name: value for name, value in os.environ.items() if name not in {"COLUMNS", "FORCE_COLOR"}},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    answer = subprocess.run(  # noqa: S602 -- the pages are our own
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    errors = [line for line in answer.stderr.splitlines() if line.startswith("slabrace:")]
    if answer.returncode not in FINE and not errors:
        msg = f"{command}: exit code {answer.returncode}\n{answer.stderr}"
        raise AssertionError(msg)
    return [line.rstrip() for line in answer.stdout.splitlines()] + errors


def prepare(folder: Path) -> None:
    """Make the repository's `tests` available to commands in *folder*."""
    (folder / "tests").symlink_to(ROOT / "tests")


# -- comparing --------------------------------------------------------------------------------------------------------


def masked(text: str) -> str:
    """A line without the parts that differ from run to run."""
    for pattern, mask in MASKS:
        text = pattern.sub(mask, text)
    return text


def is_shown_by(shown: str, actual: str) -> bool:
    """Whether a line of a page matches a line of the output."""
    parts = [re.escape(part) for part in masked(shown.rstrip()).split(ELISION)]
    return re.fullmatch(".*".join(parts), masked(actual)) is not None


def first_difference(shown: Sequence[str], actual: Sequence[str]) -> str:
    """The first difference between a page and the output; empty if there is none."""
    segments = segments_of(shown)
    at = 0
    for number, segment in enumerate(segments):
        first, last = number == 0, number == len(segments) - 1
        starts: Sequence[int] = range(at, len(actual) - len(segment) + 1)
        if first:
            starts = starts[:1]
        elif last:
            starts = starts[-1:]
        found = next((start for start in starts if fits(segment, actual[start:])), None)
        if found is None:
            return explain(segment, actual[at:])
        at = found + len(segment)
    if len(segments) == 1 and at < len(actual):
        return f"the page leaves out, without {ELISION!r}:\n  {actual[at]}"
    return ""


def segments_of(shown: Sequence[str]) -> list[list[str]]:
    """The lines between the elisions."""
    segments: list[list[str]] = [[]]
    for line in shown:
        if line == ELISION:
            segments.append([])
        else:
            segments[-1].append(line)
    return segments


def fits(segment: Sequence[str], actual: Sequence[str]) -> bool:
    """Whether the output begins with the lines of the segment."""
    return len(segment) <= len(actual) and all(map(is_shown_by, segment, actual))


def explain(segment: Sequence[str], actual: Sequence[str]) -> str:
    """The place in the output that is most similar to a segment of a page, and the first line that differs."""
    if not actual:
        return f"the page shows, after the end of the output:\n  {segment[0]}"
    best, start = max((sum(map(is_shown_by, segment, actual[at:])), -at) for at in range(len(actual)))
    there = actual[-start:] if best else sorted(actual, key=lambda line: -likeness(segment[0], line))
    for line, other in zip(segment, [*there, *["(the end)"] * len(segment)], strict=False):
        if not is_shown_by(line, other):
            return f"the page shows\n  {line}\nthe output has\n  {other}"
    return f"the page shows at another place:\n  {segment[0]}"


# -- updating ---------------------------------------------------------------------------------------------------------

MOST_NEW_LINES = 2
"""The largest number of new lines between two shown ones; more are omitted."""

LEAST_ALIKE = 0.4
"""The least likeness of two lines that count as the same line with other figures."""


def likeness(shown: str, actual: str) -> float:
    """The similarity of two lines, from 0 to 1, by their words; figures are ignored."""
    if is_shown_by(shown, actual):
        return 1.0
    one, other = words_of(shown), words_of(actual)
    both, all_words = (one & other).total(), one.total() + other.total()
    if ELISION in shown:  # words in an elision are not missed
        all_words = 2 * one.total()
    is_other = next(iter(one), "") != next(iter(other), "")  # the first column of a table names the row
    return (0.6 if is_other else 0.99) * min(2 * both / all_words, 1.0) if all_words else 0.0


def words_of(line: str) -> Counter[str]:
    """The words of a line, with all figures made equal."""
    return Counter(re.sub(r"\d+(?:\.\d+)?", "0", re.sub(r"\b[0-9a-f]{12,}\b", "0", line)).replace(ELISION, " ").split())


def rewritten(shown: Sequence[str], actual: Sequence[str]) -> list[str]:
    """The output with the same lines omitted as before, as far as they can be identified."""
    if not first_difference(shown, actual) or not shown:
        return list(shown)
    if ELISION not in shown and len(actual) <= 2 * len(shown) + 4:
        return [as_before(shown, line) for line in actual]
    lines: list[str] = []
    for line, at, skipped in aligned(shown, actual):
        if line == ELISION:
            lines += [ELISION] if skipped and lines[-1:] != [ELISION] else []
        elif at is not None:
            lines += actual[at - skipped : at] if skipped <= MOST_NEW_LINES else [ELISION]
            lines.append(elided(line, actual[at]))
    return lines


def as_before(shown: Sequence[str], actual: str) -> str:
    """The line of the page that matches this line, or else the line itself."""
    return next((line for line in shown if is_shown_by(line, actual)), actual)


def aligned(shown: Sequence[str], actual: Sequence[str]) -> list[tuple[str, int | None, int]]:
    """For each line of a page its place in the output (None: nowhere), and the number of lines skipped before it.

    This is the alignment with the greatest likeness. Skipped lines cost nothing at an elision, and a penalty elsewhere.
    The last entry is the end of the output.
    """
    alignment = Alignment(shown, actual)
    steps: list[tuple[str, int | None, int]] = []
    i = j = skipped = 0
    while i < len(shown):
        _, down, right = max(alignment.moves(i, j), key=lambda move: (move[0], move[1], -move[2]))
        if down:
            is_line = shown[i] != ELISION
            steps.append((shown[i], j if right else None, skipped if right or not is_line else 0))
            skipped = skipped if is_line and not right else 0
        else:
            skipped += right
        i, j = i + down, j + right
    return [*steps, (ELISION, None, len(actual) - j + skipped)]


@attrs.define
class Alignment:
    """The best alignment from line *i* of a page and line *j* of the output on, by dynamic programming.

    `best` are the scores; `far` is the best place to continue in the output.
    """

    shown: Sequence[str]
    actual: Sequence[str]
    best: list[list[float]] = attrs.field(init=False)
    far: list[list[int]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        rows, columns = len(self.shown), len(self.actual)
        self.best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
        self.far = [[columns] * (columns + 1) for _ in range(rows + 1)]
        for i in range(rows, -1, -1):
            best, far = self.best[i], self.far[i]
            for j in range(columns, -1, -1):
                best[j] = max((score for score, _, _ in self.moves(i, j)), default=0.0)
                far[j] = j if j == columns or best[j] >= best[far[j + 1]] else far[j + 1]

    def moves(self, i: int, j: int) -> Iterator[tuple[float, int, int]]:
        """The possible moves: the score, and the numbers of lines of the page and of the output that it consumes."""
        rows, columns = len(self.shown), len(self.actual)
        at_elision = i < rows and self.shown[i] == ELISION
        if i == rows:
            if j < columns:
                yield -passing(columns - j), 0, columns - j
            return
        if j < columns:
            there = self.far[i][j + 1]
            for k in (j + 1, there):
                yield self.best[i][k] - (0.0 if at_elision else passing(k - j)), 0, k - j
        if at_elision:
            yield self.best[i + 1][j], 1, 0
            return
        yield self.best[i + 1][j] - 0.3, 1, 0
        alike = likeness(self.shown[i], self.actual[j]) if j < columns else 0.0
        if alike >= LEAST_ALIKE:
            yield self.best[i + 1][j + 1] + alike, 1, 1


def passing(lines: int) -> float:
    """The penalty for skipping *lines* lines without an elision: at most the penalty for a new elision."""
    return min(0.1 * lines, 0.4)


def elided(shown: str, actual: str) -> str:
    """The line of the output with the old elisions: the same number of words of each part is kept."""
    if is_shown_by(shown, actual):
        return shown
    if ELISION not in shown:
        return actual
    kept, rest = [], actual
    parts = shown.split(ELISION)
    for number, part in enumerate(parts):
        words = len(part.split())
        spans = [match.span() for match in re.finditer(r"\S+", rest)]
        first, last = number == 0, number == len(parts) - 1
        if not words or words > len(spans):
            kept.append(" " if not words and 0 < number < len(parts) - 1 else "")
            continue
        if first:
            ends = [end for _, end in spans[words - 1 :]]  # not between a number and its unit
            begin, end = 0, next(end for end in ends if is_shown_by(rest[:end] + ELISION, rest))
        elif last:
            begin, end = spans[-words][0], len(rest)
        else:
            windows = range(len(spans) - words + 1)
            start = max(windows, key=lambda at: (likeness(part, rest[spans[at][0] : spans[at + words - 1][1]]), -at))
            begin, end = spans[start][0], spans[start + words - 1][1]
        space = " " if part.startswith(" ") and not first else "", " " if part.endswith(" ") and not last else ""
        kept.append(space[0] + rest[begin:end] + space[1])
        rest = rest[end:]
    return ELISION.join(kept)


def rewrite(page: Path, *, slow: bool) -> None:
    """Run the blocks of a page, and update their output."""
    text = page.read_text(encoding="utf-8")
    changes: list[tuple[Block, str]] = []
    for block, seconds, outputs in run_page(page, slow=slow):
        for shown, actual in zip(block.shown, outputs, strict=True):
            if shown.lines:
                shown.lines = rewritten(shown.lines, actual)
                left = first_difference(shown.lines, actual)
                if left:
                    sys.stdout.write(f"{page.name}:{block.line}: mend by hand: {left}\n")
        sys.stdout.write(
            f"{page.name}:{block.line}: {seconds:.1f} s{'' if str(block) == block.text else ', changed'}\n"
        )
        sys.stdout.flush()
        changes.append((block, str(block)))
    for block, new in reversed(changes):
        text = text[: block.begin] + new + text[block.end :]
    page.write_text(text, encoding="utf-8")


def run_page(page: Path, *, slow: bool) -> Iterator[tuple[Block, float, list[list[str]]]]:
    """Each block that is run, its running time, and the output of its commands."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for block in blocks_of(page):
            if block.file:
                (folder / block.file).write_text(block.text, encoding="utf-8")
            elif block.is_run and (slow or not block.is_slow):
                began = time.monotonic()
                outputs = run_block(block, folder)
                yield block, time.monotonic() - began, outputs


def main() -> None:
    """Update pages."""
    parser = argparse.ArgumentParser(description="Run what the pages show, and write its output there.")
    parser.add_argument("--slow", action="store_true", help="also what takes long")
    parser.add_argument("pages", nargs="*", type=Path, help="those pages only")
    options = parser.parse_args()
    for page in [path.resolve() for path in options.pages] or pages():
        rewrite(page, slow=options.slow)


if __name__ == "__main__":
    main()
