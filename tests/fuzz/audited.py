"""Commands in a process with an audit hook: `python -m tests.fuzz.audited FOLDER < commands.json`.

An audit hook cannot be removed, so it gets a process of its own. It sees every file that Python opens, and all code
that is compiled or run, and looks for the payload. The answer is a list: for each command its ending, and the events
about the payload.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import CodeType

from tests.fuzz.bench import Bench

PAYLOAD = "payload.py"
MARK = "payload-was-executed"
"""The marker in the payload's text, and the name of the file that the payload makes if it runs."""

WATCHED = frozenset({"open", "compile", "exec", "import"})


def is_of_payload(value: object) -> bool:
    """Whether an argument of an event is the payload's path, its text, or code compiled from it."""
    if isinstance(value, CodeType):
        return is_of_payload(value.co_filename) or MARK in value.co_consts
    text = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
    name = os.path.basename(text)  # noqa: PTH119 -- text is often no path
    return name in {PAYLOAD, Path(PAYLOAD).stem} or (MARK in text and name != MARK)


def main() -> None:
    """Run all commands from standard input."""
    bench, seen = Bench(Path(sys.argv[1])), []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event in WATCHED and any(map(is_of_payload, arguments)):
            seen.append(event)

    commands = json.load(sys.stdin)
    sys.addaudithook(watch)
    answers = []
    for command in commands:
        ending = bench.run(*command)
        answers.append({"code": ending.code, "err": ending.err, "seen": seen + [MARK] * (MARK in ending.made)})
        seen.clear()
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
