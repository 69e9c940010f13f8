"""The command `explain`."""

from __future__ import annotations

import argparse
import sys

from explorer import signals
from explorer.cli.options import open_log
from explorer.cli.parser import needs
from explorer.explain import FORMATS, explain_log, show_explanation
from explorer.explain.as_json import to_json
from explorer.explain.explanation import Explanation
from explorer.json_out import json_text
from explorer.report import make_console
from protocol.atomic import check_free, write_file


def main(options: argparse.Namespace) -> int:
    """Explain the finding of a log; return the exit code."""
    needs(options, "--force", "--out")
    check_free(options.out, overwrite=options.force)
    _give(options, explain_log(open_log(options), options.log, options.signature))
    return 1


@signals.answering()
def _give(options: argparse.Namespace, explanation: Explanation) -> None:
    """Print or write the explanation."""
    if options.out is None and options.format == "text" and not options.json:
        show_explanation(make_console(), explanation)
        return
    text = json_text(to_json(explanation)) if options.json else FORMATS[options.format](explanation)
    if options.out is None:
        sys.stdout.write(text)
    else:
        write_file(options.out, text, overwrite=options.force)
