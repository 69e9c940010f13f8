"""Messages for an unknown name: the nearest known name, and the known names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_NAME = 100
"""No name is longer. Comparing a longer text would take time and memory quadratic in its length."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to *name*, ignoring case; None if none is near."""
    known = list(known)
    if len(name) > LONGEST_NAME:
        return None
    longer = [candidate for candidate in known if name and candidate.startswith(name)]
    if len(longer) == 1:  # a name that was not typed to its end
        return longer[0]
    by_word = {_word(candidate): candidate for candidate in reversed(known)}
    near = difflib.get_close_matches(_word(name), by_word, n=1)
    return by_word[near[0]] if near else None


def _word(name: str) -> str:
    """The compared part of a name: the dashes of an option do not count as similarity."""
    return name.casefold().lstrip("-")


def do_you_mean(name: str, known: Iterable[str]) -> str:
    """`; do you mean 'NAME'?`, or nothing."""
    near = nearest(name, known)
    return f"; do you mean {near!r}?" if near is not None else ""


def no_such(what: str, name: str, known: Iterable[str], *, see: str = "") -> str:
    """The message that there is no such *what*, with the known names or *see*, the command that lists them."""
    names = list(known)
    told = f"see {see}" if see else f"there are {', '.join(names) or 'none'}"
    hint = do_you_mean(name, names)
    return f"there is no such {what}{hint} {told[0].upper()}{told[1:]}" if hint else f"there is no such {what}; {told}"
