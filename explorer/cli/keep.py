"""The command `keep`, and the kept findings that `explore` runs first."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer import defaults
from explorer.cli.options import given, open_log
from explorer.cli.parser import refuse
from explorer.experiment import RunOptions
from explorer.json_out import print_json
from explorer.keep import (
    TEST_NAME,
    TRUSTING,
    Again,
    kept_files,
    make_kept,
    of_experiment,
    read_kept,
    run_again,
    test_text,
    to_text_file,
)
from explorer.output import file_stem
from explorer.report import make_console
from explorer.search.jobs import JobReport
from explorer.shrink import reproduce
from explorer.streams import complain, shell_word
from explorer.trace import trace_log
from protocol.atomic import write_file
from protocol.errors import UsageError

if TYPE_CHECKING:
    from explorer.search.campaign import Campaign


def main(options: argparse.Namespace) -> int:
    """Keep a finding, or check the kept ones; return the exit code."""
    if (options.log is None) == (options.check is None):
        msg = "keep: give either a LOG or --check DIR"
        raise UsageError(msg)
    if options.check is None:
        return _keep_log(options)
    refuse(options, "--check", ["--signature", "--dir", "--name", "--force", "--expect"])
    return _check(options)


def _keep_log(options: argparse.Namespace) -> int:
    experiment = open_log(options)
    logged = trace_log(experiment, options.log, options.signature)
    trace, controls_clock = reproduce(experiment, logged.schedule, logged.signature)
    assert trace.found is not None, "reproduce() only returns runs that show the flaw"
    name = file_stem(experiment.header, trace.found) if options.name is None else options.name
    path: Path = options.dir / f"{name}.json"
    if path.parent != options.dir or not name:
        msg = f"--name {options.name}: give the name of a file, not a path; --dir says where"
        raise UsageError(msg)
    kept = make_kept(experiment, trace, options.dir, controls_clock=controls_clock, expects=options.expect)
    write_file(path, to_text_file(kept), overwrite=options.force)
    test = options.dir / TEST_NAME
    has_code = bool(kept.files)
    if not test.exists():
        write_file(test, test_text(trust=has_code))
    elif has_code and TRUSTING not in test.read_text(encoding="utf-8", errors="replace"):
        complain(f"{test} runs no files: let it say assert_as_expected(path{TRUSTING})")
    if options.json:
        answer = {"outcome": "finding", "file": str(path), "test": str(test), "signature": kept.signature}
        print_json(answer)
    else:
        make_console().print(f"kept: {path}", f"test: python -m pytest {shell_word(test)}")
    return 0


def _check(options: argparse.Namespace) -> int:
    kept_findings = [(path, read_kept(path)) for path in kept_files(options.check)]
    experiments = [kept.experiment(path, given(options)) for path, kept in kept_findings]
    runs = [run_again(path, kept, one) for (path, kept), one in zip(kept_findings, experiments, strict=True)]
    is_wrong = not all(again.is_as_expected for again in runs)
    if options.json:
        kept = [again_json(again) for again in runs]
        print_json({"outcome": "finding" if is_wrong else "ok", "kept": kept})
    else:
        console = make_console()
        for again in runs:
            console.print(*again_lines(again))
        wrong = sum(not again.is_as_expected for again in runs)
        stale = sum(again.stale is not None for again in runs)
        console.print(f"{len(runs)} kept, {wrong} not as expected, {stale} stale")
    return int(is_wrong)


def again_lines(again: Again) -> list[str]:
    """Lines about the result of one kept schedule."""
    others = [one.signature for one in again.findings if one.signature != again.kept.signature]
    shown = "is found" if again.shows_it else "is not found"
    verdict = "as expected" if again.is_as_expected else "NOT as expected"
    lines = [f"{again.path}: {again.kept.signature} {shown}, {verdict}"]
    lines += [f"  also found: {signature}" for signature in others]
    lines += [f"  {path} has changed since" for path in again.changed_files]
    return lines + ([f"  stale: {again.stale}"] if again.stale is not None else [])


def again_json(again: Again) -> dict[str, Any]:
    """The result of one kept schedule as JSON."""
    stale = again.stale
    return {
        "file": str(again.path),
        "scenario": again.kept.scenario,
        "kernel": again.kept.kernel,
        "signature": again.kept.signature,
        "expects": again.kept.expects,
        "shows_it": again.shows_it,
        "as_expected": again.is_as_expected,
        "findings": [finding.signature for finding in again.findings],
        "changed_patches": [path for path in again.changed_files if path in {one.path for one in again.kept.patches}],
        "changed_files": again.changed_files,
        "stale": None
        if stale is None
        else {"choice": stale.choice, "at": stale.at, "of": stale.of, "enabled": list(stale.enabled)},
    }


# -- explore ----------------------------------------------------------------------------------------------------------


def kept_first(
    directory: Path | None, options: RunOptions, scenario: str, runs: list[Again]
) -> Callable[[Campaign], None]:
    """A callback for the start of a search: it runs the kept schedules, and adds their results to *runs*."""
    if directory is None:
        directory = defaults.KEPT if defaults.KEPT.is_dir() else None
    chosen = of_experiment(directory, options, scenario) if directory is not None else ()
    experiments = [kept.experiment_with(path, options) for path, kept in chosen]

    def run_first(campaign: Campaign) -> None:
        for (path, kept), experiment in zip(chosen, experiments, strict=True):
            if campaign.stopped or campaign.room_after(campaign.schedules) <= 0:
                return
            again = run_again(path, kept, experiment)
            runs.append(again)
            take(campaign, again)

    return run_first


def take(campaign: Campaign, again: Again) -> None:
    """Count a kept schedule as a schedule of the search."""
    report = JobReport()
    report.add(campaign.schedules, again.stage, again.watch, again.choices)
    campaign.take_first(f"kept {again.path.name}", report, again.experiment, again.strategy)


def kept_lines(runs: Sequence[Again]) -> list[str]:
    """Lines about the kept schedules that a search ran."""
    lines = []
    for again in runs:
        lines.append(f"kept {again.path}: {again.kept.signature} is {'' if again.shows_it else 'not '}found")
        lines += [f"  stale: {again.stale}"] if again.stale is not None else []
    return lines
