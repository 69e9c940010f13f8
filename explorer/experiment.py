"""One scenario on one kernel, with its knobs, patches and faults: what can be run, any number of times."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from importlib import metadata
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import msgspec

from actors.fixes import FIXES
from actors.linux.mm.page_alloc import FAULTS
from actors.system.stepper import run_stepper
from actors.system.trio_driver import run_trio
from actors.system.world import World
from actors.versions.patching import Patch, find_patches, name_patch
from actors.versions.profiles import PROFILES
from explorer import signals
from explorer.blame import Blame
from explorer.onward import Beginning, Onward, Start, read_beginning
from protocol.blame import SLABRACE
from protocol.errors import UsageError
from protocol.log import LogReader
from protocol.names import no_such
from protocol.records import Header, PatchRecord
from scenarios import find_scenario
from scenarios.stage import Stage

if TYPE_CHECKING:
    from actors.system.strategy import Strategy
    from scenarios.registry import Scenario

DRIVERS: dict[str, Callable[[World], None]] = {"trio": run_trio, "stepper": run_stepper}
V = TypeVar("V")
Pairs = tuple[tuple[str, V], ...]

CHECKS = ("off", "quiescent", "step")


def _texts(values: Mapping[str, str] | Iterable[tuple[str, str]]) -> Pairs[str]:
    return tuple(dict(values).items())


def _numbers(values: Mapping[str, float] | Iterable[tuple[str, float]]) -> Pairs[float]:
    return tuple(dict(values).items())


@attrs.frozen(kw_only=True)
class RunOptions:
    """What a run is made of; together with the code it determines every byte of the log but the header.

    `settings` are knobs as typed, `faults` probabilities, by name; they can be given as dictionaries. With a `start`
    the scenario, the kernel, the knobs, the faults and what is checked are those of its log, and so are the patches, if
    none are given.
    """

    scenario: str
    kernel: str = "5.3"
    strategy: str = "random"
    driver: str = "trio"
    seed: int = 0
    settings: Pairs[str] = attrs.field(default=(), converter=_texts)
    check: str = "step"
    patches: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    faults: Pairs[float] = attrs.field(default=(), converter=_numbers)
    start: Start | None = None


@attrs.frozen
class Experiment:
    """A scenario that can be run. `header` describes one run of it, `patches` are those that it names.

    Every run of it begins with the choices of `beginning`, if there is one.
    """

    header: Header
    scenario: Scenario
    patches: tuple[Patch, ...]
    beginning: Beginning | None = None

    @classmethod
    def of(
        cls, options: RunOptions, scenario: Scenario | None = None, recorded: Mapping[str, Any] = MappingProxyType({})
    ) -> Experiment:
        """What *options* mean; UsageError if they do not fit. *scenario*: one that is not registered by a name.

        *recorded* are values of knobs, checked but not typed by anybody (they name no files); the settings come first.
        """
        if options.start is not None:
            return cls._of_start(options, options.start)
        scenario = scenario or find_scenario(options.scenario)
        _check_options(options)
        parameters = scenario.values(dict(options.settings), recorded)
        wanted = [name_patch(name, FIXES) for name in options.patches]
        patches = _select(wanted, options.without, options.kernel, parameters)
        laid_over = patches[len(options.without) :]
        header = Header(
            scenario=scenario.name,
            kernel=options.kernel,
            strategy=options.strategy,
            seed=options.seed,
            driver=options.driver,
            parameters=parameters,
            slabrace=_version(),
            check=options.check,
            patches=records_of(laid_over),
            without=options.without,
            faults=dict(options.faults),
        )
        return cls(header, scenario, patches)

    @classmethod
    def _of_start(cls, options: RunOptions, start: Start) -> Experiment:
        with closing(LogReader(start.log)) as log:
            experiment = cls.of_log(log, options.patches, trust=start.trust)
            header = msgspec.structs.replace(
                experiment.header,
                strategy=options.strategy,
                seed=options.seed,
                driver=options.driver,
                slabrace=_version(),
            )
            return attrs.evolve(experiment, header=header, beginning=read_beginning(log, start.at))

    @classmethod
    def of_log(cls, log: LogReader, patches: Sequence[str] = (), *, trust: bool = False) -> Experiment:
        """What *log* is a run of; with *patches*, if there are any, instead of those that it names.

        Code that the log carries runs only with *trust*, or if *patches* are files with the same text; otherwise it is
        a UsageError.
        """
        header = log.header
        try:
            scenario = find_scenario(header.scenario)
            _check_header(scenario, log)
            wanted = _wanted_patches(log, [name_patch(name, FIXES) for name in patches], trust=trust)
            chosen = _select(wanted, header.without, header.kernel, header.parameters)
        except UsageError as error:
            msg = str(error)
            raise UsageError(msg if msg.startswith(f"{log.path}:") else f"{log.path}: {msg}") from None
        if patches:
            header = msgspec.structs.replace(header, patches=records_of(chosen[len(header.without) :]))
        return cls(header, scenario, chosen)

    def with_knob(self, name: str, value: int) -> Experiment:
        """The same with another value of one knob."""
        header = msgspec.structs.replace(self.header, parameters={**self.header.parameters, name: value})
        return attrs.evolve(self, header=header)

    def set_stage(self, strategy: Strategy) -> Stage:
        """A world of its own in which the scenario is about to begin."""
        header = self.header
        chooser = strategy if self.beginning is None else Onward(self.beginning, strategy)
        world = World(chooser, faults=header.faults)
        stage = Stage(world, header.kernel, header.parameters, check=header.check, patches=self.patches)
        with self.blaming(world):
            self.scenario.build(stage)
        return stage

    def drive(self, world: World, driver: str = "stepper") -> None:
        """Run *world* to its end. What goes wrong in Python is never the kernel's: it is the user's code, or ours.

        A signal ends it after its current step, and is raised then (`explorer.signals`).
        """
        with self.blaming(world), signals.ending(world):
            DRIVERS[driver](world)
        signals.raise_pending()

    def blaming(self, world: World | None) -> Blame:
        """A `with` block for whatever may run code of the user's in *world*."""
        return Blame(files_of(self.patches), own_files(self.scenario), world)


def files_of(patches: Iterable[Patch]) -> tuple[str, ...]:
    """The files of those patches that are the user's."""
    return tuple(patch.path for patch in patches if patch.path)


def own_files(scenario: Scenario) -> tuple[str, ...]:
    """The file of a scenario that is not one of slabrace's."""
    code = getattr(scenario.build, "__code__", None)
    file = code.co_filename if code is not None else ""
    return (file,) if file and not file.startswith(SLABRACE) else ()


def records_of(patches: Iterable[Patch]) -> tuple[PatchRecord, ...]:
    """What a header says of *patches*."""
    return tuple(patch.record for patch in patches)


@functools.cache
def _version() -> str:
    return metadata.version("slabrace")


def _select(
    patches: Sequence[PatchRecord], without: Sequence[str], kernel: str, parameters: Mapping[str, Any]
) -> tuple[Patch, ...]:
    """What these patches are for that kernel; UsageError if one of them does not apply."""
    with Blame(tuple(record.file for record in patches if record.is_code)):
        return tuple(find_patches(patches, without, FIXES, kernel, parameters.get("allocator", "slub")))


def _wanted_patches(log: LogReader, given: Sequence[PatchRecord], *, trust: bool) -> Sequence[PatchRecord]:
    """Those *given*, or those of the log: if no code is among them, if that is *given* too, or if the user has *trust*.

    No file is opened because a log names it.
    """
    carried = log.header.patches
    code = [record for record in carried if record.is_code]
    if code and [record.sha256 for record in given] == [record.sha256 for record in code]:
        same = {record.sha256: record for record in given}
        return [same[record.sha256] if record.is_code else record for record in carried]
    if given:
        return given
    for record in carried:
        may_run = trust and record.text if record.is_code else record.name in FIXES
        if not may_run:
            raise UsageError(_refusal(record))
    return carried


def _refusal(record: PatchRecord) -> str:
    """Why a log is not run: what it would run, where that came from, and what the user can do."""
    if not record.is_code:
        return f"recorded with the fix {record.name}, which this slabrace does not have; a file is given with --patch"
    what = f"recorded with the patch {record.name} (from {record.path}, sha256 {record.sha256[:12]})"
    if not record.text:
        return f"{what}, whose text is not in the log: give the file with --patch"
    return (
        f"{what}, whose {len(record.text.splitlines())} lines are in the log and run only if you trust them: read them "
        "with slabrace log --patches, then give --trust, or --patch with a file of the same text"
    )


def _check_options(options: RunOptions) -> None:
    choices: tuple[tuple[str, str, Iterable[str]], ...] = (
        ("--kernel", options.kernel, PROFILES),
        ("--driver", options.driver, DRIVERS),
        ("--check", options.check, CHECKS),
        *(("--fault", fault, FAULTS) for fault, _ in options.faults),
    )
    for option, value, known in choices:
        if value not in known:
            msg = f"{option} {value}: {no_such('choice', value, known)}"
            raise UsageError(msg)


def _check_header(scenario: Scenario, log: LogReader) -> None:
    """Refuse a log whose kernel, check, faults or knobs this slabrace does not have."""
    header = log.header
    choices: tuple[tuple[str, str, Iterable[str]], ...] = (
        ("kernel", header.kernel, PROFILES),
        ("check", header.check, CHECKS),
        *(("fault", fault, FAULTS) for fault in header.faults),
    )
    for what, value, known in choices:
        if value not in known:
            msg = f"recorded with {what} {value}, which this slabrace does not have"
            raise UsageError(msg)
    missing = [knob.name for knob in scenario.knobs if knob.name not in header.parameters]
    if missing:
        msg = f"the header lacks {', '.join(missing)}, which {header.scenario} needs: another version's log?"
        raise UsageError(msg)
    scenario.check(header.parameters, str(log.path))
