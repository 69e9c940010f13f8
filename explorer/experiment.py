"""An experiment: one scenario on one kernel, with knobs, patches and faults, ready to run any number of times."""

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
from actors.system.stepper import run_stepper
from actors.system.strategy import Strategy
from actors.system.trio_driver import run_trio
from actors.system.world import World
from actors.versions.patching import Patch, find_patches, name_patch
from explorer import signals
from explorer.blame import Blame
from explorer.kinds import ORACLE, SCENARIO
from explorer.onward import Beginning, Onward, Start, read_beginning
from explorer.references import Resolved, find, find_by_name, load, name_code, own_files
from protocol.blame import MACHINE, SLABRACE
from protocol.errors import UsageError
from protocol.findings import ORACLES
from protocol.log import LogReader
from protocol.names import no_such
from protocol.records import CodeRecord, Header, PatchRecord
from protocol.vocabulary import CHECKS, FAULTS, KERNELS
from scenarios.stage import Stage

if TYPE_CHECKING:
    from actors.oracles.own import Oracle
    from scenarios.registry import Scenario

DRIVERS: dict[str, Callable[[World], None]] = {"trio": run_trio, "stepper": run_stepper}
V = TypeVar("V")
Pairs = tuple[tuple[str, V], ...]


def _texts(values: Mapping[str, str] | Iterable[tuple[str, str]]) -> Pairs[str]:
    return tuple(dict(values).items())


def _numbers(values: Mapping[str, float] | Iterable[tuple[str, float]]) -> Pairs[float]:
    return tuple(dict(values).items())


@attrs.frozen(kw_only=True)
class RunOptions:
    """The inputs of a run. Together with the code they determine every byte of the log, except the header.

    `settings` are knobs as typed, `faults` are probabilities; both are by name, and can be given as dictionaries.
    `scenario`, `oracles` and `patches` are names or files, as on the command line. With a `start`, its log gives the
    kernel, the knobs, the faults and the checks, and also the scenario, the oracles and the patches if none are given.
    """

    scenario: str
    kernel: str = "5.3"
    strategy: str = "random"
    driver: str = "trio"
    seed: int = 0
    settings: Pairs[str] = attrs.field(default=(), converter=_texts)
    check: str = "step"
    patches: tuple[str, ...] = ()
    oracles: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    faults: Pairs[float] = attrs.field(default=(), converter=_numbers)
    start: Start | None = None


@attrs.frozen
class Given:
    """Code that replaces the code that a log carries or names; nothing, if it is empty.

    A file with the same text as the log carries counts as *trust* in that text. `oracles` and `patches` with other
    texts replace all oracles or patches of the log.
    """

    patches: tuple[str, ...] = ()
    scenario: str = ""
    oracles: tuple[str, ...] = ()
    trust: bool = False


NOTHING_GIVEN = Given()


@attrs.frozen
class Experiment:
    """A scenario that can be run. `header` describes one run of it; `patches` and `oracles` are the loaded ones.

    `files` are the user's files, except patches. With a `beginning`, every run starts with its choices.
    """

    header: Header
    scenario: Scenario
    patches: tuple[Patch, ...]
    beginning: Beginning | None = None
    oracles: tuple[Oracle, ...] = ()
    files: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, options: RunOptions, scenario: Scenario | None = None, recorded: Mapping[str, Any] = MappingProxyType({})
    ) -> Experiment:
        """The experiment that *options* describe; UsageError if they do not fit. *scenario* needs no registered name.

        *recorded* are knob values from a file: they were not typed, so they do not name files. The settings have
        precedence.
        """
        if options.start is not None:
            return cls._of_start(options, options.start)
        found = find(SCENARIO, options.scenario) if scenario is None else Resolved((scenario,))
        scenario = _named(found)
        _check_options(options)
        scenario.check(recorded, "knobs")
        parameters = scenario.values(dict(options.settings), recorded)
        scenario.check_kernel(options.kernel, parameters)
        wanted = [name_patch(name, FIXES) for name in options.patches]
        patches = _select(wanted, options.without, options.kernel, parameters)
        laid_over = patches[len(options.without) :]
        oracles = load_oracles(map(name_oracle, options.oracles))
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
            scenario_code=found.code,
            oracles=tuple(one.code for one in oracles if one.code is not None),
        )
        return cls(header, scenario, patches)._with(found, oracles)

    def _with(self, scenario: Resolved[Scenario], oracles: Sequence[Resolved[Oracle]]) -> Experiment:
        """A copy with *oracles*, and with `files` complete."""
        things = tuple(oracle for found in oracles for oracle in found.things)
        files = [*scenario.files, *(file for found in oracles for file in found.files)]
        return attrs.evolve(self, oracles=things, files=tuple(dict.fromkeys(files)))

    @classmethod
    def _of_start(cls, options: RunOptions, start: Start) -> Experiment:
        given = Given(options.patches, options.scenario, options.oracles, trust=start.trust)
        with closing(LogReader(start.log)) as log:
            experiment = cls.of_log(log, given)
            header = msgspec.structs.replace(
                experiment.header,
                strategy=options.strategy,
                seed=options.seed,
                driver=options.driver,
                slabrace=_version(),
            )
            return attrs.evolve(experiment, header=header, beginning=read_beginning(log, start.at))

    @classmethod
    def of_log(cls, log: LogReader, given: Given = NOTHING_GIVEN) -> Experiment:
        """The experiment that *log* recorded, with the *given* code instead of the log's.

        Code that the log carries runs only with trust, or if files of the same text are given; otherwise it is a
        UsageError.
        """
        header = log.header
        try:
            found = _scenario_of(log, given)
            scenario = _named(found)
            _check_header(scenario, log)
            wanted = _wanted(
                header.patches, [name_patch(name, FIXES) for name in given.patches], PATCHES, trust=given.trust
            )
            chosen = _select(wanted, header.without, header.kernel, header.parameters)
            oracles = _oracles_of(log, given)
        except UsageError as error:
            msg = str(error)
            raise UsageError(msg if msg.startswith(f"{log.path}:") else f"{log.path}: {msg}") from None
        header = msgspec.structs.replace(
            header,
            scenario=scenario.name,
            scenario_code=found.code,
            oracles=tuple(one.code for one in oracles if one.code is not None),
        )
        if given.patches:
            header = msgspec.structs.replace(header, patches=records_of(chosen[len(header.without) :]))
        return cls(header, scenario, chosen)._with(found, oracles)

    def on_kernel(self, kernel: str, patches: Sequence[PatchRecord], without: tuple[str, ...]) -> Experiment:
        """A copy on another kernel, with these patches and without these fixes; UsageError if one does not apply."""
        chosen = _select(patches, without, kernel, self.header.parameters)
        laid_over = records_of(chosen[len(without) :])
        header = msgspec.structs.replace(self.header, kernel=kernel, patches=laid_over, without=without)
        return attrs.evolve(self, header=header, patches=chosen)

    def with_knob(self, name: str, value: int | str) -> Experiment:
        """A copy with another value of one knob."""
        header = msgspec.structs.replace(self.header, parameters={**self.header.parameters, name: value})
        return attrs.evolve(self, header=header)

    def set_stage(self, strategy: Strategy) -> Stage:
        """Build a new world, with the scenario ready to start."""
        header = self.header
        chooser = strategy if self.beginning is None else Onward(self.beginning, strategy)
        world = World(chooser, faults=header.faults)
        stage = Stage(
            world,
            header.kernel,
            header.parameters,
            check=header.check,
            patches=self.patches,
            oracles=self.oracles,
            is_built=False,
        )
        with self.blaming(world):
            self.scenario.build(stage)
        stage.is_built = True
        if not stage.is_booted:
            msg = f"{self.scenario.name}: the scenario boots no machine; call stage.boot() first"
            raise UsageError(msg)
        return stage

    def drive(self, world: World, driver: str = "stepper") -> None:
        """Run *world* to its end. A Python error is attributed to the user's code or to slabrace, never to the kernel.

        A signal ends the run after its current step, and is raised then (`explorer.signals`).
        """
        with self.blaming(world), signals.ending(world):
            DRIVERS[driver](world)
        signals.raise_pending()

    def blaming(self, world: World | None) -> Blame:
        """A `with` block for code in which user code may run in *world*."""
        strategies = strategy_files(world.strategy) if world else ()
        files = (*self.files, *own_files(self.scenario.build), *strategies)
        patches = tuple(patch.path for patch in self.patches if patch.path)
        return Blame(patches, files, world, reach=SLABRACE if strategies else MACHINE)

    @property
    def begins_at(self) -> int:
        """The number of steps that every run repeats from a log, before the strategy chooses."""
        return len(self.beginning.steps) if self.beginning is not None else 0

    @property
    def runs_user_code(self) -> bool:
        """Whether files of the user's take part; their code may be nondeterministic."""
        return bool(self.files) or any(patch.path for patch in self.patches)


def strategy_files(strategy: Strategy) -> tuple[str, ...]:
    """The user's files that hold the code of *strategy*, or of a strategy that it wraps."""
    asked: object = getattr(strategy, "strategy", None)
    return _class_files(type(strategy)) + (strategy_files(asked) if isinstance(asked, Strategy) else ())


@functools.lru_cache(maxsize=64)
def _class_files(strategy: type[Strategy]) -> tuple[str, ...]:
    methods = (value for cls in strategy.__mro__ if issubclass(cls, Strategy) for value in vars(cls).values())
    return tuple(dict.fromkeys(file for method in methods for file in own_files(method) if callable(method)))


def records_of(patches: Iterable[Patch]) -> tuple[PatchRecord, ...]:
    """The header's records of *patches*."""
    return tuple(patch.record for patch in patches)


@functools.cache
def _version() -> str:
    return metadata.version("slabrace")


def _select(
    patches: Sequence[PatchRecord], without: Sequence[str], kernel: str, parameters: Mapping[str, Any]
) -> tuple[Patch, ...]:
    """Load these patches for that kernel; UsageError if one of them does not apply."""
    with Blame(tuple(record.file for record in patches if record.is_code)):
        return tuple(find_patches(patches, without, FIXES, kernel, parameters.get("allocator", "slub")))


# -- code by name, by file, and out of a log --------------------------------------------------------------------------


def _named(found: Resolved[Scenario]) -> Scenario:
    """The scenario that was found, with the name that logs and reports use."""
    (scenario,) = found.things
    return scenario if found.code is None else scenario.renamed(found.code.name)


def name_oracle(text: str) -> CodeRecord:
    """Resolve an `--oracle`: an installed oracle, or a file. The file's text is read, and nothing is run."""
    if text in ORACLES:
        msg = f"--oracle {text}: this oracle is built in and always checked; leave the option out"
        raise UsageError(msg)
    return name_code(ORACLE, text)


def load_oracles(records: Iterable[CodeRecord]) -> list[Resolved[Oracle]]:
    """The oracles that these records declare; UsageError if two oracles have one name."""
    found = [load(ORACLE, one, wants_all=True) if one.is_code else find_by_name(ORACLE, one.name) for one in records]
    names = [oracle.name for one in found for oracle in one.things]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        msg = f"--oracle: two oracles are named {twice}; leave one of them out"
        raise UsageError(msg)
    return [one if one.code is not None else attrs.evolve(one, code=CodeRecord(one.things[0].name)) for one in found]


def _scenario_of(log: LogReader, given: Given) -> Resolved[Scenario]:
    """The *given* scenario, or the log's: by name, or from the carried code if the user trusts it."""
    code = log.header.scenario_code
    if given.scenario:
        return find(SCENARIO, given.scenario, member="" if code is None else code.member)
    if code is None:
        return find_by_name(SCENARIO, log.header.scenario)
    _wanted((code,), (), OF_A_FILE, trust=given.trust)
    return load(SCENARIO, code)


def _oracles_of(log: LogReader, given: Given) -> list[Resolved[Oracle]]:
    """The *given* oracles, or the log's, under the same rules as patches."""
    given_now = [name_oracle(text) for text in given.oracles]
    return load_oracles(_wanted(log.header.oracles, given_now, OWN_ORACLES, trust=given.trust))


@attrs.frozen
class Carried:
    """A kind of code in logs: its word, the option that gives a file, and a test whether a bare name is known."""

    word: str
    option: str
    is_known: Callable[[str], bool]


PATCHES = Carried("patch", "--patch", FIXES.__contains__)
OF_A_FILE = Carried("scenario", "--scenario", lambda _name: True)
OWN_ORACLES = Carried("oracle", "--oracle", lambda _name: True)

C = TypeVar("C", bound=CodeRecord)


def _wanted(carried: Sequence[C], given: Sequence[C], kind: Carried, *, trust: bool) -> Sequence[C]:
    """The code to run: *given*, or *carried* by the log if it is only names, is given too, or the user has *trust*.

    No file is opened because a log names it.
    """
    code = [record for record in carried if record.is_code]
    if code and [record.sha256 for record in given] == [record.sha256 for record in code]:
        same = {record.sha256: record for record in given}
        return [same[record.sha256] if record.is_code else record for record in carried]
    if given:
        return given
    for record in carried:
        may_run = trust and record.text if record.is_code else kind.is_known(record.name)
        if not may_run:
            raise UsageError(_refusal(record, kind))
    return carried


def _refusal(record: CodeRecord, kind: Carried) -> str:
    """Why a log is not run: the code in question, its origin, and the options that the user has."""
    if not record.is_code:
        return (
            f"recorded with the fix {record.name}, which this slabrace does not have; a file is given with "
            f"{kind.option}"
        )
    what = f"recorded with the {kind.word} {record.name} (from {record.path}, sha256 {record.sha256[:12]})"
    if not record.text:
        return f"{what}, whose text is not in the log: give the file with {kind.option}"
    return (
        f"{what}, whose {len(record.text.splitlines())} lines are in the log and run only if you trust them: read them "
        f"with slabrace log --patches, then give --trust, or {kind.option} with a file of the same text"
    )


def _check_options(options: RunOptions) -> None:
    choices: tuple[tuple[str, str, Iterable[str]], ...] = (
        ("--kernel", options.kernel, KERNELS),
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
        ("kernel", header.kernel, KERNELS),
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
