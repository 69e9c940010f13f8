"""The command `bugs`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from explorer.json_out import print_json
from explorer.report import make_console
from explorer.stress.bugs import Move, list_bugs, move
from explorer.stress.store import Store
from protocol.errors import UsageError

if TYPE_CHECKING:
    from explorer.stress.queries import Row


def main(options: argparse.Namespace) -> int:
    """List bugs, or move them; return the exit code."""
    state = options.state if options.dup is None else "dup"
    wanted = Move(state, options.dup, options.note)
    if wanted != Move():
        if not options.ids:
            option = "--note" if state is None else f"--{state}"
            msg = f"{option}: give the numbers of the bugs; slabrace bugs STORE lists them"
            raise UsageError(msg)
        move(options.store, options.ids, wanted)
    with Store(options.store, writes=False) as store:
        bugs = list_bugs(store, options.ids)
    if options.json:
        print_json(bugs)
    else:
        show_bugs(bugs, with_life=bool(options.ids))
    return 0


def show_bugs(bugs: Sequence[Row], *, with_life: bool) -> None:
    """Print a line for each bug; with its life, if bugs were named."""
    console = make_console()
    if not bugs:
        console.print("no bugs")
        return
    table = Table("bug", "state", "cause", "seen", "kernels", "scenarios", "note", box=None, pad_edge=False)
    for bug in bugs:
        table.add_row(
            str(bug["id"]),
            state_in_words(bug),
            bug["cause"],
            str(bug["sightings_ever"]),
            ", ".join(bug["kernels"]),
            ", ".join(bug["scenarios"]),
            bug["note"],
        )
    console.print(table)
    for bug in bugs if with_life else ():
        console.print("", f"bug {bug['id']}")
        for event in bug["life"]:
            words = [event["event"], event["state"] or "", f"of {event['of']}" if event["of"] else ""]
            words += [f"in {event['cell']}" if event["cell"] else "", event["note"] or ""]
            console.print(f"  {event['at']}  campaign {event['campaign']}: {' '.join(filter(None, words))}")


def state_in_words(bug: Row) -> str:
    """The state, with its verdict or the bug that it belongs to."""
    more = bug["judged"] if bug["state"] == "known" else f"of {bug['of']}" if bug["state"] == "dup" else ""
    return f"{bug['state']} ({more})" if more else str(bug["state"])
