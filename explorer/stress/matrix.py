"""The matrix of a campaign: scenarios x kernels x variants x swept knobs x strategies, as cells.

A sweep or a variant need not fit every scenario and kernel. A combination that does not fit is left out, with its
reason; a value that fits none of them is a usage error.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from msgspec import Struct, structs

from explorer.experiment import Experiment, RunOptions
from explorer.kinds import SCENARIO
from explorer.references import find
from explorer.search.guided import is_unbiased
from explorer.search.registry import EXACT, GUIDED, PORTFOLIO, check_strategy
from protocol.errors import UsageError
from protocol.formats.columns import MAX_DIGITS
from protocol.names import no_such
from protocol.vocabulary import FAULTS, KERNELS
from scenarios import SCENARIOS

if TYPE_CHECKING:
    from scenarios.registry import Knob, Scenario

ALL = "all"
RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")
MOST_VALUES = 1_000
"""Most values of one sweep."""

MOST_CELLS = 100_000

Variant = tuple[tuple[str, ...], tuple[str, ...]]
"""Patches to lay over the kernel, and fixes to take out of it."""

SMALLER: dict[str, dict[str, str]] = {"shared-dentry": {"generations": "2", "files": "2", "every": "1"}}
"""Smaller settings for scenarios whose schedules take long with their defaults; given and swept values come first."""

SWARM_FAULTS = (0.0, 0.0, 0.01, 0.1)
"""The probabilities among which a swarm draws for each fault: half of the faults are off."""
MOST_SWARM_CPUS, MOST_SWARM_VALUE = 4, 4
MOST_SWARM = 10_000
"""Most cells that a swarm draws for an epoch."""


class Request(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The inputs that determine a campaign, as the store keeps them.

    `settings` and `faults` hold for all cells; `sweeps` are the values of knobs, as typed. A variant is a list of named
    fixes and patch files to lay over the kernel (`+NAME`) or take out of it (`-NAME`), with spaces; the empty variant
    is the kernel as it is. With `swarm`, each epoch draws so many further cells from the seed.
    """

    scenarios: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    variants: tuple[str, ...] = ("",)
    patches: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    oracles: tuple[str, ...] = ()
    settings: dict[str, str] = {}
    sweeps: dict[str, tuple[str, ...]] = {}
    faults: dict[str, float] = {}
    strategies: tuple[str, ...] = ()
    check: str = "step"
    swarm: int = 0
    seed: int = 0


class Point(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of a cell, as the store keeps them; `RunOptions` without the driver and the seed."""

    scenario: str
    kernel: str
    strategy: str
    settings: dict[str, str] = {}
    check: str = "step"
    patches: tuple[str, ...] = ()
    oracles: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    faults: dict[str, float] = {}

    def options(self, seed: int, driver: str = "stepper") -> RunOptions:
        """The options of a run of this cell."""
        return RunOptions(**structs.asdict(self), seed=seed, driver=driver)

    @property
    def kernel_in_words(self) -> str:
        """The kernel with its patches, as `5.3 +patch -fix`."""
        return " ".join([self.kernel, *(f"+{name}" for name in self.patches), *(f"-{name}" for name in self.without)])

    def __str__(self) -> str:
        """The cell in one line."""
        words = [self.scenario, "on", self.kernel_in_words]
        words += [f"{name}={value}" for name, value in self.settings.items()]
        words += [f"fault:{name}={probability}" for name, probability in self.faults.items()]
        words += [self.strategy] if self.strategy else []
        return " ".join(words)


@attrs.frozen
class Matrix:
    """The points that fit, and for each point that does not the reason in one line."""

    points: tuple[Point, ...]
    left_out: tuple[str, ...] = ()


def expand(request: Request) -> Matrix:
    """All points of *request*; UsageError if one of its values fits nowhere, or if nothing is left."""
    scenarios = {text: _scenario(text) for text in request.scenarios or [one.name for one in SCENARIOS]}
    for kernel in request.kernels:
        if kernel not in KERNELS:
            msg = f"--kernel {kernel}: {no_such('choice', kernel, KERNELS)}"
            raise UsageError(msg)
    if request.swarm > MOST_SWARM:
        msg = f"--swarm {request.swarm}: give at most {MOST_SWARM}"
        raise UsageError(msg)
    _check_texts(request)
    check_strategies(request.strategies)
    _check_knobs(request, scenarios)
    left_out: dict[str, None] = {}
    points: list[Point] = []
    for point in _candidates(request, scenarios, left_out):
        reason = why_unfit(point)
        if reason:
            left_out[f"{point}: {reason}"] = None
            continue
        points.append(point)
        if len(points) > MOST_CELLS:
            msg = f"the matrix has more than {MOST_CELLS} cells; take fewer values"
            raise UsageError(msg)
    _check_sweeps(request, points, left_out)
    if not points:
        msg = f"nothing to run: {next(iter(left_out), 'no scenario')}"
        raise UsageError(msg)
    return Matrix(tuple(points), tuple(left_out))


def _candidates(request: Request, scenarios: Mapping[str, Scenario], left_out: dict[str, None]) -> Iterator[Point]:
    """All combinations."""
    variants = [parse_variant(text) for text in request.variants]
    for (text, scenario), kernel, variant, strategy in itertools.product(
        scenarios.items(), request.kernels, variants, request.strategies
    ):
        fixed = {**SMALLER.get(scenario.name, {}), **_known(scenario, request.settings)}
        for swept in _combinations(scenario, request.sweeps, left_out):
            yield _point(request, text, kernel, strategy, settings={**fixed, **swept}, variant=variant)


def _point(
    request: Request,
    scenario: str,
    kernel: str,
    strategy: str,
    *,
    settings: dict[str, str],
    variant: Variant,
) -> Point:
    patches, without = variant
    return Point(
        scenario=scenario,
        kernel=kernel,
        strategy=strategy,
        settings=settings,
        check=request.check,
        patches=(*request.patches, *patches),
        oracles=request.oracles,
        without=(*request.without, *without),
        faults=request.faults,
    )


def _check_sweeps(request: Request, points: Iterable[Point], left_out: Iterable[str]) -> None:
    """UsageError if a swept value fits nowhere."""
    fits = {pair for point in points for pair in point.settings.items()}
    for name, values in request.sweeps.items():
        for value in values:
            if (name, value) not in fits:
                why = next((line for line in left_out if f"{name}={value}" in line), "no scenario can have it")
                msg = f"--sweep {name}={value}: {why}"
                raise UsageError(msg)


def check_strategies(strategies: Iterable[str]) -> None:
    """UsageError if a strategy is not a sampler's name, or has a wrong argument."""
    for text in strategies:
        entry = check_strategy(text).entry
        if entry.name in EXACT or entry.name == PORTFOLIO:
            msg = f"--strategy {text}: stress takes samplers and guided; the search that ends is explore's"
            raise UsageError(msg)


def check_estimates(strategies: Iterable[str]) -> None:
    """UsageError if no schedule of these strategies feeds the estimate of the unseen."""
    if not any(text == GUIDED or is_unbiased(text) for text in strategies):
        msg = f"--until-quiet: no schedule of {', '.join(strategies)} feeds the estimate; take {GUIDED}, or one more"
        raise UsageError(msg)


def parse_sweep(text: str) -> tuple[str, tuple[str, ...]]:
    """The knob and the values of `NAME=A..B` or `NAME=V,V,...`; UsageError if it is neither."""
    name, equals, values = text.partition("=")
    found: list[str] = []
    for part in values.split(","):
        bounds = RANGE.fullmatch(part)
        if bounds is None:
            found.append(part)
            continue
        least, most = int(bounds[1]), int(bounds[2])
        if not 0 <= most - least < MOST_VALUES:
            msg = f"--sweep {text}: {part} has no values, or more than {MOST_VALUES}"
            raise UsageError(msg)
        found += map(str, range(least, most + 1))
    if not (name and equals and all(found)) or len(set(found)) < len(found) or len(found) > MOST_VALUES:
        msg = f"--sweep {text}: give NAME=A..B or NAME=VALUE,VALUE, each value once"
        raise UsageError(msg)
    return name, tuple(found)


def parse_variant(text: str) -> Variant:
    """The patches and the fixes to take out of a variant; UsageError if a word has no sign."""
    words = text.split()
    for word in words:
        if word[0] not in "+-" or len(word) == 1:
            msg = f"--variant {text!r}: {word}: write +NAME for a patch laid over the kernel, -FIX for a fix taken out"
            raise UsageError(msg)
    return tuple(word[1:] for word in words if word[0] == "+"), tuple(word[1:] for word in words if word[0] == "-")


def why_unfit(point: Point) -> str:
    """Why there is no such experiment; empty if there is one."""
    try:
        Experiment.of(point.options(0))
    except UsageError as error:
        return str(error)
    return ""


# -- swarm ------------------------------------------------------------------------------------------------------------


def draw_swarm(request: Request, epoch: int) -> list[Point]:
    """The further points of an epoch: a swarm draws the knobs, the CPUs, the allocator and the faults of each.

    Groce, Zhang, Eide, Chen, Regehr, "Swarm Testing", ISSTA 2012: many random configurations that each leave out
    features find more than one that has them all.
    """
    source = random.Random(f"{request.seed} {epoch}")
    scenarios = {text: _scenario(text) for text in request.scenarios or [one.name for one in SCENARIOS]}
    variants = [parse_variant(text) for text in request.variants]
    points: list[Point] = []
    for _ in range(request.swarm * 4):
        if len(points) == request.swarm:
            break
        text = source.choice(list(scenarios))
        variant = source.choice(variants)
        settings = {
            **SMALLER.get(scenarios[text].name, {}),
            **_drawn(scenarios[text].knobs, source),
            **_known(scenarios[text], request.settings),
        }
        kernel, strategy = source.choice(request.kernels), source.choice(request.strategies)
        faults = request.faults or {fault: p for fault in FAULTS if (p := source.choice(SWARM_FAULTS))}
        point = _point(request, text, kernel, strategy, settings=settings, variant=variant)
        point = structs.replace(point, faults=faults)
        if not why_unfit(point):
            points.append(point)
    return points


def _drawn(knobs: Sequence[Knob], source: random.Random) -> dict[str, str]:
    """A value for about half of the knobs: near the least value, because machines grow with it."""
    drawn: dict[str, str] = {}
    for knob in knobs:
        if knob.is_slabinfo or source.random() < 0.5:
            continue
        most = MOST_SWARM_CPUS if knob.name in {"cpus", "nodes"} else MOST_SWARM_VALUE
        if knob.choices:
            drawn[knob.name] = source.choice(knob.choices)
        else:
            least = knob.least
            drawn[knob.name] = str(source.randint(least, max(least, min(knob.most, max(most, knob.default)))))
    return drawn


# -- knobs ------------------------------------------------------------------------------------------------------------


def _scenario(text: str) -> Scenario:
    return find(SCENARIO, text).things[0]


def _check_texts(request: Request) -> None:
    """UsageError if a name has bytes that are no characters: no JSON can have it."""
    for text in (*request.scenarios, *request.variants, *request.patches, *request.oracles, *request.strategies):
        if any("\ud800" <= character <= "\udfff" for character in text):
            msg = f"{text}: a store keeps names in Unicode only; rename the file or its folder"
            raise UsageError(msg)


def _known(scenario: Scenario, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that *scenario* has a knob for."""
    names = {knob.name for knob in scenario.knobs}
    return {name: value for name, value in settings.items() if name in names}


def _check_knobs(request: Request, scenarios: Mapping[str, Scenario]) -> None:
    """UsageError if a knob is set and swept, or if no scenario has it."""
    known = {knob.name for scenario in scenarios.values() for knob in scenario.knobs}
    for option, names in (("--set", request.settings), ("--sweep", request.sweeps)):
        for name in names:
            if name not in known:
                msg = f"{option} {name}: {no_such('knob of these scenarios', name, known)}"
                raise UsageError(msg)
    for name in request.settings:
        if name in request.sweeps:
            msg = f"--sweep {name}: leave out --set {name}, it would have no effect"
            raise UsageError(msg)


def _combinations(
    scenario: Scenario, sweeps: Mapping[str, Sequence[str]], left_out: dict[str, None]
) -> Iterator[dict[str, str]]:
    """The combinations of the values that this scenario's knobs can have; one, if it has none of the knobs."""
    known = {knob.name: knob for knob in scenario.knobs}
    choices: list[list[tuple[str, str]]] = []
    for name, values in sweeps.items():
        if name not in known:
            continue
        choices.append([(name, value) for value in values if _is_valid(scenario, known[name], value, left_out)])
    return map(dict, itertools.product(*choices))


def _is_valid(scenario: Scenario, knob: Knob, value: str, left_out: dict[str, None]) -> bool:
    try:
        knob.parse(value)
    except UsageError as error:
        left_out[f"{scenario.name} with {knob.name}={value:.{MAX_DIGITS}}: {error}"] = None
        return False
    return True
