"""What is said of a name that is not known: which one was perhaps meant, and which there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_NAME = 100
"""No name is longer, and to compare one that is takes time and memory with its square."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that *name* was perhaps meant to be, whatever its case; None if none is near."""
    if len(name) > LONGEST_NAME:
        return None
    by_word = {_word(candidate): candidate for candidate in reversed(list(known))}
    near = difflib.get_close_matches(_word(name), by_word, n=1)
    return by_word[near[0]] if near else None


def _word(name: str) -> str:
    """What is compared of a name: the dashes of an option are no likeness."""
    return name.casefold().lstrip("-")


def do_you_mean(name: str, known: Iterable[str]) -> str:
    """`; do you mean 'NAME'?`, or nothing."""
    near = nearest(name, known)
    return f"; do you mean {near!r}?" if near is not None else ""


def no_such(what: str, name: str, known: Iterable[str], *, see: str = "") -> str:
    """That there is no such *what*, and what there is: all of it, or *see*, the command that lists it."""
    names = list(known)
    told = f"see {see}" if see else f"there are {', '.join(names) or 'none'}"
    hint = do_you_mean(name, names)
    return f"there is no such {what}{hint} {told[0].upper()}{told[1:]}" if hint else f"there is no such {what}; {told}"
