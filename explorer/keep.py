"""Kept findings: regression files, which every search tries first and a test runs again.

A file records the run (scenario, kernel, knobs that are not at their default, patches, faults), the schedule by the
names of lanes, and the finding that it showed. Names survive edits elsewhere. If a choice does not fit any more, it is
skipped, and the run reports the number of the first such choice as a divergence. After the last choice the run
continues in the non-preemptive order.

A file normally expects `nothing`: the flaw has to stay away. A file kept with `--expect finding` expects the flaw: the
kernel is meant to have it, as old versions do.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import attrs
import msgspec
from msgspec import Meta, Struct

from actors.fixes import FIXES
from actors.versions.user_code import parse_reference
from explorer.defaults import FINDING, NOTHING
from explorer.experiment import NOTHING_GIVEN, OF_A_FILE, OWN_ORACLES, PATCHES, Carried, Experiment, Given, RunOptions
from explorer.explain import explain_schedule, to_text
from explorer.kinds import SCENARIO
from explorer.schedule import Follow
from explorer.search.jobs import run_watched
from protocol.errors import UsageError
from protocol.findings import Finding, Natural
from protocol.formats.textfile import read_bounded
from protocol.log import READ_BY, VERSION
from protocol.records import Probability
from protocol.schedule import Choice
from scenarios.registry import default_value

if TYPE_CHECKING:
    from explorer.trace import Trace
    from explorer.watch import Watch
    from protocol.records import CodeRecord
    from scenarios.stage import Stage

FORMAT = VERSION
"""The version of the log format that defines the meaning of a kept schedule."""

TEST_NAME = "test_kept.py"
_TEST_TEXT = '''\
"""Runs every finding that is kept here again; `slabrace keep` wrote this file and the files beside it."""

from pathlib import Path

import pytest

from slabrace.keep import assert_as_expected, kept_files


@pytest.mark.parametrize("path", kept_files(Path(__file__).parent), ids=lambda path: path.stem)
def test_kept_finding(path: Path) -> None:
    """The flaw is gone, or still there, as the file expects; if not, the report explains it."""
    assert_as_expected(path{trust})
'''

TRUSTING = ", trust=True"


def test_text(*, trust: bool) -> str:
    """The text of the test file; with *trust*, the test runs the files that the kept findings name."""
    return _TEST_TEXT.format(trust=TRUSTING if trust else "")


FileName = Annotated[str, Meta(pattern=r"^[^\0]*$")]
"""A file name, which never contains a NUL."""

Expectation = Literal["nothing", "finding"]

Value = str | Natural
"""The value of a knob; the name of a lane, or a number that the environment chose."""


class KeptCode(Struct, frozen=True, forbid_unknown_fields=True):
    """Code of a run: a name, or a file, by its path relative to the directory of the regression file.

    The name of code in a file may be `FILE:NAME`. `sha256` is the hash of the file's text.
    """

    name: str
    path: FileName = ""
    sha256: str = ""

    @classmethod
    def of(cls, code: CodeRecord, directory: Path) -> KeptCode:
        """The entry for *code* in a regression file in *directory*."""
        return cls(code.name, path_from(directory, code.path), code.sha256)

    def reference(self, source: Path, kind: Carried, given: Sequence[str], *, trust: bool) -> str:
        """Its reference on the command line; UsageError that names *source* if the user has not allowed it."""
        if not self.path:
            if kind.is_known(self.name):
                return _bare_name(source, self.name, FIXES if kind is PATCHES else ())
            msg = f"{source}: kept with the fix {self.name}, which this slabrace does not have"
            raise UsageError(msg)
        file = Path(os.path.normpath(source.parent / self.path))
        member = self.name.removeprefix(file.name)
        if member == self.name or (member and not member.startswith(":")):
            msg = f"{source}: {self.name} is no name for {file}: it has to be {file.name} or {file.name}:NAME"
            raise UsageError(msg)
        files = [parse_reference(text, FIXES).file for text in given]
        if trust or file.resolve() in {Path(name).resolve() for name in files if name}:
            return f"{file}{member}"
        msg = (
            f"{source}: kept with the {kind.word} {file}, which runs only if you say so: give --trust, or "
            f"{kind.option} {file}"
        )
        raise UsageError(msg)


def _bare_name(source: Path, name: str, known: Iterable[str]) -> str:
    """*name*, if no file can be meant by it; UsageError otherwise: a regression file alone makes no code run."""
    if parse_reference(name, known).file:
        msg = f"{source}: kept with {name}, which is a file, without its path and hash; keep it anew"
        raise UsageError(msg)
    return name


class Kept(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of a regression file; `knobs` are the ones that were not at their default."""

    scenario: str
    kernel: str
    signature: str
    expects: Expectation = NOTHING
    knobs: dict[str, Value] = {}
    check: str = "step"
    patches: tuple[KeptCode, ...] = ()
    scenario_code: KeptCode | None = None
    oracles: tuple[KeptCode, ...] = ()
    without: tuple[str, ...] = ()
    faults: dict[str, Probability] = {}
    keeps_time: bool = False
    schedule: tuple[Value, ...]
    slabrace: str

    @property
    def files(self) -> list[KeptCode]:
        """The user's files that the regression file names."""
        code = [*self.patches, *self.oracles, *([] if self.scenario_code is None else [self.scenario_code])]
        return [one for one in code if one.path]

    def experiment(self, source: Path, given: Given = NOTHING_GIVEN) -> Experiment:
        """The experiment of the file *source*; UsageError if this slabrace does not have its parts any more.

        The files that it names run only with trust, or if they are among the *given* ones.
        """
        scenario, trust = self.scenario, given.trust
        if self.scenario_code is not None:
            scenario = self.scenario_code.reference(source, OF_A_FILE, [given.scenario], trust=trust)
        else:
            _bare_name(source, scenario, SCENARIO.built_in())
        options = RunOptions(
            scenario=scenario,
            driver="stepper",
            patches=tuple(one.reference(source, PATCHES, given.patches, trust=trust) for one in self.patches),
            oracles=tuple(one.reference(source, OWN_ORACLES, given.oracles, trust=trust) for one in self.oracles),
            without=self.without,
        )
        return self.experiment_with(source, options)

    def experiment_with(self, source: Path, options: RunOptions) -> Experiment:
        """The experiment with the scenario, patches and oracles of *options*, and the file's own knobs and faults.

        The faults of *options* have precedence. A typed knob value may name a file, as on the command line; a value in
        the regression file is the value itself.
        """
        wanted = attrs.evolve(
            options,
            kernel=self.kernel,
            check=self.check,
            faults={**self.faults, **dict(options.faults)},
            strategy="kept",
        )
        try:
            return Experiment.of(wanted, recorded=self.knobs)
        except UsageError as error:
            msg = f"{source}: {re.sub('^--(set )?', '', str(error))}"  # the value is from the file, not from an option
            raise UsageError(msg) from None


# -- files ------------------------------------------------------------------------------------------------------------


def make_kept(
    experiment: Experiment, trace: Trace, directory: Path, *, controls_clock: bool, expects: Expectation
) -> Kept:
    """The content of a regression file in *directory* for the finding of *trace*."""
    assert trace.found is not None, "there is something to keep"
    header = experiment.header
    defaults = {knob.name: default_value(knob) for knob in experiment.scenario.knobs}
    return Kept(
        scenario=header.scenario,
        kernel=header.kernel,
        signature=trace.found.signature,
        expects=expects,
        knobs={name: value for name, value in header.parameters.items() if value != defaults[name]},
        check=header.check,
        patches=tuple(KeptCode.of(patch, directory) for patch in header.patches),
        scenario_code=None if header.scenario_code is None else KeptCode.of(header.scenario_code, directory),
        oracles=tuple(KeptCode.of(oracle, directory) for oracle in header.oracles),
        without=header.without,
        faults=dict(header.faults),
        keeps_time=controls_clock,
        schedule=trace.schedule,
        slabrace=header.slabrace,
    )


def path_from(directory: Path, path: str) -> str:
    """*path* relative to *directory*, with forward slashes; an empty path stays empty."""
    return Path(os.path.relpath(path, directory)).as_posix() if path else ""


def to_text_file(kept: Kept) -> str:
    """A regression file as JSON: a line for each field, and the whole schedule on one line."""
    fields = {"format": FORMAT, **msgspec.to_builtins(kept)}
    schedule = json.dumps(fields.pop("schedule"), ensure_ascii=False)
    head = json.dumps(fields, indent=1, ensure_ascii=False)
    return f'{head[:-2]},\n "schedule": {schedule}\n}}\n'


def read_kept(path: Path) -> Kept:
    """Read a regression file; UsageError (one line) if it is not one."""
    try:
        text = read_bounded(path, must_be_file=True)
        fields = json.loads(text, object_pairs_hook=_fields, parse_constant=_refuse)
        json.dumps(fields, ensure_ascii=False).encode()  # refuse lone surrogates, which JSON allows and UTF-8 does not
        version = fields.pop("format")
        if type(version) is not int or version != FORMAT:
            is_older = type(version) is int and version in READ_BY
            hint = f"; slabrace {READ_BY[version]} reads it" if is_older else ""
            msg = f"{path}: format {version} is not {FORMAT}, which this slabrace reads{hint}"
            raise UsageError(msg)
        return msgspec.convert(fields, Kept)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, msgspec.ValidationError) as error:
        why = error if isinstance(error, UnicodeError) or not error.args else error.args[0]
        msg = f"{path}: this is not a finding that was kept: {str(why).partition(chr(10))[0]}"
        raise UsageError(msg) from None


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a JSON object; ValueError if a name is there twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        msg = "an object has two fields with the same name"
        raise ValueError(msg)
    return fields


def _refuse(constant: str) -> NoReturn:
    msg = f"{constant} is no number"
    raise ValueError(msg)


def kept_files(directory: Path) -> list[Path]:
    """The regression files of a directory, by name; UsageError if there is no such directory."""
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".json")
    except OSError as error:
        msg = f"{directory}: cannot read this directory: {error.strerror}"
        raise UsageError(msg) from None


# -- running them again -----------------------------------------------------------------------------------------------


@attrs.frozen
class StaleChoice:
    """The first divergence of a kept schedule: choice number `at` of `of`, and the lanes that could step instead."""

    at: int
    of: int
    choice: Choice
    enabled: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"choice {self.at} of {self.of} ({self.choice}) does not fit any more: enabled were "
            f"{', '.join(self.enabled)}; the run followed the choices that fit, then the non-preemptive order"
        )


@attrs.frozen
class Again:
    """The result of running a kept schedule again, with the run's `stage` and `watch`."""

    path: Path
    kept: Kept
    experiment: Experiment
    findings: tuple[Finding, ...]
    stale: StaleChoice | None
    choices: tuple[Choice, ...]
    stage: Stage = attrs.field(repr=False)
    watch: Watch = attrs.field(repr=False)

    @property
    def shows_it(self) -> bool:
        """Whether the run shows the finding that the file was kept for."""
        return any(finding.signature == self.kept.signature for finding in self.findings)

    @property
    def is_as_expected(self) -> bool:
        """Whether the flaw is there if the file expects it; if not, whether the run has no finding."""
        return self.shows_it if self.kept.expects == FINDING else not self.findings

    @property
    def changed_files(self) -> list[str]:
        """The files of patches, scenario and oracles that have changed since the finding was kept."""
        texts = {record.sha256 for record in self.experiment.header.code}
        return [one.path for one in self.kept.files if one.sha256 not in texts]

    def strategy(self) -> Follow:
        """A strategy that repeats this run's choices."""
        return Follow(self.choices, controls_clock=self.kept.keeps_time)


def run_again(path: Path, kept: Kept, experiment: Experiment) -> Again:
    """Run a kept schedule to its end, with its own experiment or with another one."""
    follow = Follow(kept.schedule, controls_clock=kept.keeps_time)
    stage, watch = run_watched(experiment, follow)
    at, stale = follow.diverges_at, None
    if at is not None:
        stale = StaleChoice(at, len(kept.schedule), kept.schedule[at], follow.enabled_there)
    findings = tuple(stage.world.findings.values())
    return Again(path, kept, experiment, findings, stale, tuple(watch.schedule), stage, watch)


def assert_as_expected(path: Path, *, trust: bool = False) -> None:
    """For tests: raise AssertionError, with the explained report, if a kept finding is not as its file expects.

    Files that the regression file names (patches, scenario, oracles) run only with *trust*; otherwise UsageError.
    """
    __tracebackhide__ = True  # pytest shows the report, not this function
    kept = read_kept(path)
    again = run_again(path, kept, kept.experiment(path, Given(trust=trust)))
    if again.is_as_expected:
        return
    stale = f"\n{again.stale}" if again.stale is not None else ""
    if again.kept.expects == FINDING and not again.shows_it:
        msg = f"{path}: {again.kept.signature} is not shown any more{stale}"
        raise AssertionError(msg)
    finding = next((one for one in again.findings if one.signature == again.kept.signature), again.findings[0])
    report = to_text(explain_schedule(again.experiment, again.choices, finding.signature))
    msg = f"{path}: {finding.signature} is found{stale}\n{report}"
    raise AssertionError(msg)


def of_experiment(directory: Path, options: RunOptions, scenario: str) -> Sequence[tuple[Path, Kept]]:
    """The regression files for *scenario* and the kernel of *options* whose knobs do not contradict its settings."""
    found = [(path, read_kept(path)) for path in kept_files(directory)]
    wanted = dict(options.settings)
    return [
        (path, kept)
        for path, kept in found
        if (kept.scenario, kept.kernel) == (scenario, options.kernel) and is_compatible(kept.knobs, wanted)
    ]


def is_compatible(knobs: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    """Whether the file's knobs agree with all *wanted* settings."""
    return all(str(knobs[name]) == value for name, value in wanted.items() if name in knobs)
