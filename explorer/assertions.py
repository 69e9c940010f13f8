"""Searches inside a test: `explored` runs a search, and raises NotAsExpectedError with the explained report.

This module is independent of pytest; `slabrace.pytest_plugin` makes a fixture of `explored`.
"""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from explorer.arguments import check_arguments
from explorer.determinism import NotTheSameError
from explorer.experiment import Experiment, RunOptions
from explorer.explain import NotReproducedError, explain_schedule, to_text
from explorer.output import file_stem
from explorer.report import PlainConsole, show_finding
from explorer.search.campaign import Campaign, Found
from explorer.search.jobs import check_word
from explorer.search.registry import EXACT
from explorer.search.report import verdict, why_unreached
from explorer.session import record
from explorer.streams import shell_word
from protocol.errors import UsageError
from protocol.findings import Finding
from scenarios import SCENARIOS
from scenarios.registry import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from explorer.explain.explanation import Explanation

TEST_BUDGET = 200
"""Default number of schedules of a search in a test."""


MOST_LINES = 50
"""Reports of a finding with more lines are shortened, so that they fit on one screen."""

EXHAUSTED, UNDETERMINED, FOUND, UNREACHED, MISSED, DIVERGED = (
    "exhausted",  # a schedule of every trace class was run, and nothing was found
    "undetermined",  # nothing was found within the budget, and schedules remain
    "finding",  # something was found, whether or not the test expects it
    "unreached",  # a `sometimes` of the scenario was true in no schedule
    "not found",  # the finding that the test expects was not found
    "diverged",  # the same choices did not lead to the same steps
)


class NotAsExpectedError(AssertionError):
    """A search did not end as its test expects; the message is the report."""

    def __init__(self, report: str, outcome: str, verdict: str) -> None:
        super().__init__(report)
        self.outcome = outcome
        self.verdict = verdict


@attrs.frozen(kw_only=True)
class Explored:
    """The result of a search in a test.

    `stopped` is why the search ended, and `verdict` one line about the strength of the result. `outcome` is one word
    for programs: a finding (an expected one), exhausted, or undetermined, if schedules remain that were not run.
    """

    outcome: str
    schedules: int
    trace_classes: int
    stopped: str
    findings: tuple[Finding, ...]
    unreached: tuple[str, ...]
    verdict: str


def explored(
    scenario: str | Path | Scenario,
    *,
    kernel: str = "5.3",
    budget: int = TEST_BUDGET,
    strategy: str = "portfolio",
    seed: int = 0,
    workers: int = 1,
    settings: Mapping[str, object] | None = None,
    faults: Mapping[str, float] | None = None,
    patches: Sequence[str | Path] = (),
    oracles: Sequence[str | Path] = (),
    without: Sequence[str] = (),
    check: str = "step",
    expect: str | None = None,
    must_reach: bool = True,
    must_exhaust: bool = False,
    logs: str | Path | None = None,
) -> Explored:
    """Search *budget* schedules of a scenario; NotAsExpectedError if anything is found.

    The scenario is a name, `FILE.py:NAME`, or a function of the test that `@scenario` declares.

    *expect* is a kind or the beginning of a signature. With it the search ends as soon as such a finding is there; if
    there never is one, that is the error. *must_reach*: each `sometimes` of the scenario has to be true in some
    schedule. *must_exhaust*: the search has to exhaust the schedules. Findings are logged in *logs*, if that is given.
    The other arguments are the options of `slabrace explore`. UsageError for one that is not what it has to be.
    """
    check_arguments(locals())
    __tracebackhide__ = True  # pytest shows the report, not this function
    own = scenario if isinstance(scenario, Scenario) else None
    if own is not None and workers > 1:
        msg = f"{own.name} is defined in this process only: leave out workers, or name the scenario as FILE.py:NAME"
        raise UsageError(msg)
    options = RunOptions(
        scenario=own.name if own is not None else str(scenario),
        kernel=kernel,
        strategy=strategy,
        driver="stepper",
        seed=seed,
        settings={name: str(value) for name, value in (settings or {}).items()},
        faults=dict(faults or {}),
        patches=tuple(str(patch) for patch in patches),
        oracles=tuple(str(oracle) for oracle in oracles),
        without=tuple(without),
        check=check,
    )
    experiment = Experiment.of(options, own)
    check_word(experiment)
    campaign = Campaign(
        experiment, options, budget=budget, workers=workers, first_only=expect is None, progress=ends_with(expect)
    )
    campaign.run()
    if campaign.stopped == "interrupted":
        raise KeyboardInterrupt
    if campaign.loss is not None:
        raise campaign.loss
    if campaign.divergence is not None:
        raise NotAsExpectedError(str(NotTheSameError(campaign.divergence)), DIVERGED, plain_verdict(campaign))
    if logs is not None:
        for found in campaign.found.values():
            log_found(experiment, found, Path(logs))
    can_replay = own is None or any(own is known for known in SCENARIOS)
    wrong, report = what_is_wrong(
        campaign, expect, must_reach=must_reach, must_exhaust=must_exhaust, can_replay=can_replay
    )
    if wrong:
        again = [] if own is not None else [command_line(campaign)]
        raise NotAsExpectedError("\n".join([*report, *again]), wrong, plain_verdict(campaign))
    return Explored(
        outcome=outcome_of(campaign),
        schedules=campaign.schedules,
        trace_classes=campaign.classes,
        stopped=campaign.stopped,
        findings=tuple(found.finding for found in campaign.found.values()),
        unreached=tuple(sorted(campaign.unreached or ())),
        verdict=plain_verdict(campaign),
    )


def ends_with(expect: str | None) -> Callable[[Campaign], None] | None:
    """A progress callback that ends the search when the expected finding is there; None if none is expected."""
    if expect is None:
        return None

    def end_if_found(campaign: Campaign) -> None:
        if any(is_expected(found.finding, expect) for found in campaign.found.values()):
            campaign.stopped = campaign.stopped or "first"

    return end_if_found


def is_expected(finding: Finding, expect: str) -> bool:
    """Whether *expect* is the finding's kind, or a prefix of its signature."""
    return finding.signature.startswith(expect)


def outcome_of(campaign: Campaign) -> str:
    """The outcome of the search, whatever the test expects."""
    if campaign.found:
        return FOUND
    return EXHAUSTED if campaign.stopped == EXHAUSTED else UNDETERMINED


def what_is_wrong(
    campaign: Campaign, expect: str | None, *, must_reach: bool, must_exhaust: bool, can_replay: bool
) -> tuple[str, list[str]]:
    """The outcome that the test does not accept, and the lines of its report; an empty outcome if it is accepted."""
    if expect is None and campaign.found:
        return FOUND, findings_report(campaign, can_replay=can_replay)
    if expect is not None:
        if any(is_expected(found.finding, expect) for found in campaign.found.values()):
            return "", []
        others = ", ".join(campaign.found) or "nothing"
        return MISSED, [f"{expect} was not found; found: {others}", plain_verdict(campaign)]
    if must_reach and campaign.unreached:
        names = [f"  sometimes {name!r}" for name in sorted(campaign.unreached)]
        return UNREACHED, [f"no schedule reached ({why_unreached(campaign)})", *names, plain_verdict(campaign)]
    if must_exhaust and campaign.stopped != EXHAUSTED:
        return UNDETERMINED, ["undetermined: the search did not come to its end", plain_verdict(campaign)]
    return "", []


def findings_report(campaign: Campaign, *, can_replay: bool) -> list[str]:
    """Explain the first finding, list the signatures of the others, and end with the verdict of the search.

    Without *can_replay* no command can replay the logs, so the report shows none: only the test has the scenario.
    """
    first, *others = campaign.found.values()
    lines = [
        f"{first.finding.signature} is found",
        explained_finding(campaign.experiment, first, can_replay=can_replay).rstrip("\n"),
    ]
    lines += [f"also found: {other.finding.signature}" for other in others]
    lines += [f"log: {found.log}" for found in (first, *others) if found.log is not None]
    if first.log is not None and not can_replay:
        lines.append("the scenario is defined in the test: no command can replay the log")
    return [*lines, plain_verdict(campaign)]


def explained_finding(experiment: Experiment, found: Found, *, can_replay: bool) -> str:
    """The explained report of a finding; the bare one if the schedule alone does not reproduce it."""
    try:
        log = Path(found.log) if found.log is not None and can_replay else None  # the report names the log
        return on_one_screen(explain_schedule(experiment, found.schedule, found.finding.signature, log=log))
    except NotReproducedError:
        out = io.StringIO()
        show_finding(PlainConsole(out), found.finding, ())
        return out.getvalue()


def on_one_screen(explanation: Explanation) -> str:
    """The explanation; if it is long, without the uneventful steps, and with only one pair of racing steps."""
    text = to_text(explanation)
    if text.count("\n") <= MOST_LINES:
        return text
    how = f"slabrace explain {shell_word(explanation.log)}" if explanation.log else "slabrace explain, with a log"
    return f"{to_text(explanation, brief=True)}  in full: {how}\n"


def plain_verdict(campaign: Campaign) -> str:
    """The verdict of `slabrace explore`, without colours."""
    return verdict(campaign).plain


def log_found(experiment: Experiment, found: Found, directory: Path) -> None:
    """Log the first schedule that showed the flaw; replace a log of the same name from an earlier run."""
    path = directory / f"{file_stem(experiment.header, found.finding)}.log"
    record(experiment, found.strategy, found.remake(), found.finding, path, overwrite=True)
    found.log = str(path)


def command_line(campaign: Campaign) -> str:
    """The command line that repeats this search."""
    options = campaign.options
    words = ["slabrace", "explore", options.scenario, "--kernel", options.kernel]
    words += ["--seed", str(options.seed)] if campaign.named.entry.name not in EXACT else []
    words += ["--strategy", options.strategy, "--budget", str(campaign.budget)]
    words += [f"--set={name}={value}" for name, value in options.settings]
    words += [f"--fault={name}={probability}" for name, probability in options.faults]
    words += [word for patch in options.patches for word in ("--patch", patch)]
    words += [word for oracle in options.oracles for word in ("--oracle", oracle)]
    words += [word for name in options.without for word in ("--without", name)]
    words += ["--check", options.check] if options.check != "step" else []
    words += ["--first"] if campaign.first_only else []
    return f"the same search: {shlex.join(words)}"
