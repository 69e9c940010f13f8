"""The command `report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from explorer import defaults, signals
from explorer.report import LiveProgress, make_console, styled
from explorer.signals import EXIT_INTERRUPTED
from explorer.stress.report.facts import Facts, gather
from explorer.stress.report.junit import to_junit
from explorer.stress.report.markdown import to_markdown
from explorer.stress.report.page import to_html
from explorer.stress.report.witnesses import study
from explorer.stress.store import Store
from protocol.atomic import check_free, write_file
from protocol.errors import UsageError

FORMS = {"out": to_html, "junit": to_junit, "markdown": to_markdown}


def main(options: argparse.Namespace) -> int:
    """Write reports; return the exit code, which does not depend on what was found."""
    wanted: dict[str, Path] = {form: path for form in FORMS if (path := getattr(options, form)) is not None}
    wanted = wanted or {"out": defaults.STRESS_REPORT}
    if options.shrink_all and not options.seconds:
        msg = "--shrink-all: it has no effect with --seconds 0"
        raise UsageError(msg)
    if len({path.absolute() for path in wanted.values()}) < len(wanted):
        msg = f"{', '.join(f'--{form}' for form in wanted)}: give each of them another file"
        raise UsageError(msg)
    for path in wanted.values():
        check_free(path, overwrite=options.force)
    with Store(options.store, writes=False) as store:
        facts = gather(store)
    is_interrupted = False
    try:
        _study(facts, options)
    except KeyboardInterrupt:
        is_interrupted = True
    _give(facts, wanted, overwrite=options.force)
    return EXIT_INTERRUPTED if is_interrupted else 0


def _study(facts: Facts, options: argparse.Namespace) -> None:
    """Shrink and explain the logs of new causes, or of all."""
    chosen = facts.causes if options.shrink_all else facts.new
    witnesses = [facts.witnesses[cause["id"]] for cause in chosen if cause["id"] in facts.witnesses]
    progress = LiveProgress()
    try:
        study(witnesses, options.seconds, trust=options.trust, told=progress.show)
    finally:
        progress.close()


@signals.answering()
def _give(facts: Facts, wanted: dict[str, Path], *, overwrite: bool) -> None:
    """Write the files, and say where they are."""
    for form, path in wanted.items():
        write_file(path, FORMS[form](facts), overwrite=overwrite)
    console = make_console()
    console.print(styled((facts.headline, "bold red" if facts.new else "bold")))
    for path in wanted.values():
        console.print(f"report: {path}")
