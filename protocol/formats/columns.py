"""Lines of columns, as in files of /proc and /sys: read word by word, refused by source and line number."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NoReturn

import attrs

from protocol.errors import UsageError

END = "the end of the line"
U64 = 1 << 64
MAX_DIGITS = len(str(U64))
SHOWN = 60
"""The number of characters of a wrong word that an error message shows."""
LONGEST_NAME = 255
"""The limit of file names: every cache has a directory in sysfs."""
_ESCAPED = re.compile(r"(?:\\[0-3][0-7]{2})+")


def fail(source: str, number: int, text: str) -> NoReturn:
    """Refuse line *number* of *source*: a UsageError of one line."""
    msg = f"{source}, line {number}: {text}"
    raise UsageError(msg)


def printable(text: str) -> str:
    r"""*text* with characters that a terminal would obey, or not show, written as in Python strings: `\x1b`."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def shown(word: str) -> str:
    """*word*, or its beginning, in quotes and without control characters."""
    return repr(word[:SHOWN]) + "..." * (len(word) > SHOWN)


@attrs.define
class Line:
    """One line during its parsing; *source* and *number* (from 1) are for error messages."""

    text: str
    source: str
    number: int
    _words: Iterator[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._words = iter(self.text.split())

    def word(self) -> str:
        """Take the next word; UsageError if there is none."""
        word = next(self._words, None)
        if word is None:
            self.fail(f"expected a word, found {END}")
        return word

    def name(self) -> str:
        """Take the next word, which must be printable (no terminal control) and not too long."""
        word = self.word()
        if len(word) > LONGEST_NAME or not word.isprintable():
            self.fail(f"expected a name, found {shown(word)}")
        return word

    def natural(self) -> int:
        """Take the next word, which must be an unsigned 64-bit number in ASCII digits."""
        word = next(self._words, END)
        if not (word.isascii() and word.isdigit()):
            self.fail(f"expected a number, found {shown(word)}")
        if len(word) > MAX_DIGITS or int(word) >= U64:
            self.fail(f"expected a number below 2^64, found {word[:MAX_DIGITS]}...")
        return int(word)

    def naturals(self, count: int) -> list[int]:
        """Take that many numbers."""
        return [self.natural() for _ in range(count)]

    def expect(self, word: str, hint: str = "") -> None:
        """Take the next word, which must be *word*; *hint* is appended to the error message."""
        found = next(self._words, END)
        if found != word:
            self.fail(f"expected {word!r}, found {shown(found)}{hint}")

    def has_more(self) -> bool:
        """Whether a word is left; it remains the next one."""
        word = next(self._words, None)
        if word is not None:
            self._words = itertools.chain([word], self._words)
        return word is not None

    def end(self, unless: str | None = None) -> None:
        """The line must end here, or continue with *unless*; the rest after *unless* is not read."""
        rest = next(self._words, None)
        if rest not in (None, unless):
            self.fail(f"expected {END}, found {shown(rest)}")

    def fail(self, text: str) -> NoReturn:
        """Refuse this line."""
        fail(self.source, self.number, text)


def lines_of(text: str, source: str) -> Iterator[Line]:
    """The lines of *text* that are neither empty nor comments."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            yield Line(line, source, number)


def escape(word: str) -> str:
    r"""*word* as one column: blanks, `\`, `#` and what cannot be printed as octal bytes (`\040`), as /proc/mounts."""
    return "".join(_escape_character(character) for character in word)


def _escape_character(character: str) -> str:
    if character.isprintable() and character not in " \\#":
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode(errors="replace"))


def unescape(column: str) -> str:
    """The inverse of `escape`."""
    return _ESCAPED.sub(
        lambda found: bytes(int(octal, 8) for octal in found[0].split("\\")[1:]).decode(errors="replace"), column
    )
