"""`search`: schedules per second, and schedules to the first flaw, against other tools for Python.

The peers explore asyncio tasks. They run in an environment of their own (`build/peers`, from benchmarks/peers.lock;
created if missing), in processes that take turns with slabrace. The programs and the preemption points are the same on
both sides. In addition: the speed of the stepper relative to Trio for the same search.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial

import attrs

from benchmarks.measure import Contestant, Race, how, race
from benchmarks.peer import Peer, start_peers
from benchmarks.report import Ratio, Report, Row
from benchmarks.small import LOADS, PROGRAMS, Load, ProgramExperiment
from explorer.experiment import DRIVERS, RunOptions
from explorer.profile import seed_of
from explorer.search.campaign import Campaign
from explorer.search.registry import make_strategy

SCHEDULES = 200
ROUNDS = 5
SEEDS = 20
BUDGET = 1_000
OURS = ("portfolio", "random", "urw", "pct:3", "dpor")
PEERS = {
    "detangle": ("auto", "random", "pct:3"),
    "frontrun": ("random", "dpor"),
    "simloom": ("random", "pct:auto"),
}
EXACT = ("dpor",)
"""Strategies that ignore the seed."""


@attrs.frozen
class Sides:
    """The participants: the peers that could be started."""

    peers: Mapping[str, Peer]

    def strategies(self) -> Iterator[tuple[str, str]]:
        """Each peer with each of its strategies."""
        for name in self.peers:
            for strategy in PEERS[name]:
                yield name, strategy


def search(*, schedules: int = SCHEDULES, rounds: int = ROUNDS, seeds: int = SEEDS) -> Report:
    """Schedules per second and to the first flaw, against detangle, frontrun and simloom; stepper and Trio."""
    with ExitStack() as stack:
        peers, notes = start_peers(PEERS, stack)
        sides = Sides(peers)
        rates = {load: race(rate_contestants(sides, load, schedules), rounds=rounds) for load in LOADS}
        found = {program: medians(sides, program, seeds) for program in PROGRAMS}
    bare = {load: race(bare_contestants(load, schedules), rounds=rounds) for load in LOADS}
    return Report(
        name="search",
        rows=(
            *rate_rows(rates),
            *(
                Row(f"first flaw: {p}: {who}", value, "schedules")
                for p, by in found.items()
                for who, value in by.items()
            ),
            *(Row(f"{load}: not watched, {d}", r.rate(d), "schedules/s") for load, r in bare.items() for d in DRIVERS),
        ),
        ratios=(
            *(Ratio(f"{load}: random / fastest peer", best_ratio(r), goal=3.0) for load, r in rates.items() if peers),
            *(
                Ratio(f"{load}: random, not watched / fastest peer", bare[load].rate("stepper") / fastest(r))
                for load, r in rates.items()
                if peers
            ),
            *(
                Ratio(f"{program}: schedules, portfolio / best peer", against_best(by), sense="at most", goal=1.0)
                for program, by in found.items()
                if peers
            ),
            *(
                Ratio(f"{load}: stepper / Trio driver", r.ratio("stepper", "trio"), goal=4.0)
                for load, r in bare.items()
            ),
        ),
        notes=(
            *(f"{peer.name} {peer.version}" for peer in peers.values()),
            *notes,
            f"rates: {schedules} schedules a round, no flaw looked for; slabrace with everything that explore does",
            "not watched: the same schedules without recording and classes, as the peers run theirs",
            f"first flaw: median over {seeds} seeds, at most {BUDGET} schedules each",
            how(rounds),
        ),
    )


# -- schedules per second ---------------------------------------------------------------------------------------------


def rate_contestants(sides: Sides, load: str, schedules: int) -> dict[str, Contestant]:
    """All contestants that try so many schedules of a program, by name."""
    program, arguments = LOADS[load]
    ours = {f"slabrace {name}": partial(explore_small, LOADS[load], name, schedules) for name in OURS}
    theirs: dict[str, Contestant] = {
        f"{name} {strategy}": partial(
            sides.peers[name].search, program.__name__, arguments, strategy, seed=1, schedules=schedules
        )
        for name, strategy in sides.strategies()
    }
    return {**ours, **theirs}


def explore_small(load: Load, strategy: str, schedules: int) -> int:
    """Explore a small program without looking for a flaw; return the schedules."""
    campaign = small_campaign(load, strategy, 1, schedules, hunts=False)
    campaign.run()
    return campaign.schedules


def small_campaign(load: Load, strategy: str, seed: int, budget: int, *, hunts: bool) -> Campaign:
    """The search of a small program."""
    program, arguments = load
    options = RunOptions(scenario="small", strategy=strategy, seed=seed, driver="stepper")
    experiment = ProgramExperiment.make(program, arguments, options, hunts=hunts)
    return Campaign(experiment, options, budget=budget, first_only=hunts)


def rate_rows(rates: Mapping[str, Race]) -> Iterator[Row]:
    """The rates of all loads."""
    for load, found in rates.items():
        for name in found.rates:
            yield Row(f"{load}: {name}", found.rate(name), "schedules/s")


def bare_contestants(load: str, schedules: int) -> dict[str, Contestant]:
    """Both drivers with the same random schedules, without observers."""
    program, arguments = LOADS[load]
    options = RunOptions(scenario="small", strategy="random", driver="stepper")
    experiment = ProgramExperiment.make(program, arguments, options, hunts=False)
    return {driver: partial(run_bare, experiment, driver, schedules) for driver in DRIVERS}


def run_bare(experiment: ProgramExperiment, driver: str, schedules: int) -> int:
    """Run so many random schedules; return their number."""
    for number in range(schedules):
        stage = experiment.set_stage(make_strategy("random", seed_of(1, number)))
        stage.start()
        experiment.drive(stage.world, driver)
    return schedules


def fastest(found: Race) -> float:
    """The rate of the fastest peer."""
    return max(found.rate(name) for name in found.rates if not name.startswith("slabrace"))


def best_ratio(found: Race) -> float:
    """The rate of slabrace's simplest strategy relative to the fastest peer's fastest."""
    return found.ratio("slabrace random", *(name for name in found.rates if not name.startswith("slabrace")))


# -- schedules to the first flaw --------------------------------------------------------------------------------------


def medians(sides: Sides, program: str, seeds: int) -> dict[str, float]:
    """The median number of schedules to the flaw of a program, for each tool and strategy."""
    found: dict[str, list[float]] = {}
    for strategy in OURS:
        for seed in range(1 if strategy in EXACT else seeds):
            campaign = small_campaign(PROGRAMS[program], strategy, seed, BUDGET, hunts=True)
            campaign.run()
            first = min((f.first_schedule + 1 for f in campaign.found.values()), default=BUDGET + 1)
            found.setdefault(f"slabrace {strategy}", []).append(first)
    body, arguments = PROGRAMS[program]
    for name, strategy in sides.strategies():
        for seed in range(1 if strategy in EXACT else seeds):
            first = sides.peers[name].first_flaw(body.__name__, arguments, strategy, seed=seed, budget=BUDGET)
            found.setdefault(f"{name} {strategy}", []).append(first)
    return {name: statistics.median(values) for name, values in found.items()}


def against_best(found: Mapping[str, float]) -> float:
    """The portfolio relative to the best peer strategy for this program."""
    return found["slabrace portfolio"] / min(v for name, v in found.items() if not name.startswith("slabrace"))
