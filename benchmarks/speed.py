"""`speed`: the cost of the same work in this tree and in the baseline, the last commit before the work on speed.

Both trees run in turns, in processes of their own (see `trees`). A ratio is taken within a round; the figure is the
median over the rounds. Every row compares the answers of the two trees, too: a faster tree with another answer has not
met its goal.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs

from benchmarks.limits import limits
from benchmarks.report import Ratio, Report, Row
from benchmarks.trees import BASELINE, BEFORE, NOW, Metered, ProcessError, Tree, both_trees

Answer = dict[str, Any]
T = TypeVar("T")

SIDES = (f"in the {BEFORE}", NOW)
"""How a message about a difference names the two trees."""

NOT_ANSWERS = frozenset({"seconds", "peak"})
"""Fields of an answer that say how it was computed, at whatever depth."""

EXPLORE = ("explore", "--strategy", "portfolio", "--check", "step", "--no-log", "--json")
DPOR = ("explore", "--strategy", "dpor", "--kernel", "5.4-fixed", "--no-log", "--json")
SCHEDULES = 2_000
"""Of the search by one and by two workers, and of the shorter one of the two long searches."""

START_LIMIT = 0.5
"""Seconds by the clock that the start of two workers may take."""

LONG, MILLION = 20_000, 1_000_000
FLAT = 1.3
"""The highest allowed ratio of a schedule's cost, and of peak memory, in the longer search to those in the shorter."""

LONG_SEARCH = """
import json, sys, time
from pathlib import Path
from benchmarks.search import small_campaign
from benchmarks.small import LOADS

campaign = small_campaign(LOADS["8 tasks x 10 rounds"], "random", 0, int(sys.argv[1]), hunts=False)
began = time.process_time()
campaign.run()
seconds = time.process_time() - began
status = Path("/proc/self/status").read_text(encoding="ascii")
peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
print(json.dumps({"schedules": campaign.schedules, "classes": campaign.classes, "seconds": seconds, "peak": peak}))
"""
"""Prints CPU seconds and peak memory (KiB) of one search. It runs in either tree."""


# -- the work that is compared ----------------------------------------------------------------------------------------


def whole(answer: Answer) -> Answer:
    """All of the answer."""
    return answer


def nothing(_answer: Answer) -> Answer:
    """Nothing of the answer: the text of --help has the options of its tree."""
    return {}


def without_work(answer: Answer) -> Answer:
    """The answer without the fields that say how much an exact search ran to get there."""
    kept = {name: value for name, value in answer.items() if name not in {"steps", "cut_off", "by_strategy"}}
    return {**kept, "found": signatures(answer)}


def conclusion(answer: Answer) -> Answer:
    """The part of an exact search's answer that does not depend on the order in which it ran the classes."""
    return {**{name: answer[name] for name in ("outcome", "stopped", "trace_classes")}, "found": signatures(answer)}


def signatures(answer: Answer) -> list[str]:
    """The signatures of all findings and symptoms."""
    return sorted({one["signature"] for found in answer["findings"] for one in (found, *found["symptoms"])})


@attrs.frozen
class Done:
    """A run in one tree, and its answer."""

    cost: Metered
    answer: Answer


@attrs.frozen(kw_only=True)
class Work:
    """A command of slabrace whose CPU time is compared.

    `counts` is the field of the answer with the units of work; without it the figure is CPU time. The goal is a
    `speedup` over the baseline, or a `limit` in CPU seconds. `compared` is the part of the answer that must be equal in
    both trees. The command prints JSON (`is_json`), or text, and may write a `table` besides.
    """

    name: str
    command: tuple[str, ...]
    counts: str = ""
    speedup: float | None = None
    limit: float | None = None
    rounds: int = 3
    compared: Callable[[Answer], Answer] = whole
    is_json: bool = True
    table: str = ""

    def run(self, tree: Tree) -> Done:
        """Run it in *tree*."""
        cost = tree.slabrace(*self.command)
        answer = json.loads(cost.output) if self.is_json else {"output": cost.output}
        if self.table:
            answer["table"] = (tree.place / self.table).read_text(encoding="utf-8")
        return Done(cost, answer)

    def figure(self, done: Done) -> float:
        """The figure of one run."""
        return float(done.answer[self.counts] / done.cost.cpu) if self.counts else done.cost.cpu

    def ratio(self, before: Sequence[Done], now: Sequence[Done]) -> Ratio:
        """The ratio that the goal is about."""
        if self.limit is not None:
            spent = statistics.median(done.cost.cpu for done in now)
            return Ratio(f"{self.name}: CPU time / {self.limit:g} s", spent / self.limit, "at most", 1)
        gained = statistics.median(one.cost.cpu / other.cost.cpu for one, other in zip(before, now, strict=True))
        return Ratio(f"{self.name}: CPU time, {BEFORE} / {NOW}", gained, "at least", self.speedup)


def works(*, is_full: bool = False) -> tuple[Work, ...]:
    """The rows whose CPU time is compared."""
    return (
        *(
            Work(name=f"explore {name}", command=(*EXPLORE, "--budget", budget, name), counts="schedules", speedup=3)
            for name, budget in (
                ("destroy-vs-offline", "1000"),
                ("offline-vs-free", "1000"),
                ("rmdir-under-load", "300"),
            )
        ),
        *(exact(name, is_full=is_full) for name in ("offline-vs-free", "offline-vs-destroy")),
        *(
            Work(
                name=f"run {name} on Trio",
                command=("run", "--driver", "trio", "--log", "run.log", "--force", "--json", name, *more),
                counts="steps",
                speedup=1.5,
            )
            for name, more in (
                ("rmdir-under-load", ("--set", "objects=2000")),
                ("shared-dentry", ("--kernel", "original", "--set", "generations=60")),
            )
        ),
        Work(name="start-up: --help", command=("--help",), limit=0.2, rounds=9, is_json=False, compared=nothing),
        Work(name="start-up: list", command=("list",), limit=0.2, rounds=9, is_json=False),
        Work(
            name="growth, 7 days, 4 hosts, both kernels",
            command=("growth", "--workers", "1", "--csv", "growth.csv", "--force", "--json"),
            limit=60,
            rounds=1,
            table="growth.csv",
        ),
    )


def exact(scenario: str, *, is_full: bool) -> Work:
    """An exact search: of a thousand schedules, or to its end."""
    if is_full:
        command = (*DPOR, "--budget", "100000000", scenario)
        return Work(name=f"dpor {scenario}, to the end", command=command, speedup=6, rounds=1, compared=conclusion)
    command = (*DPOR, "--budget", "1000", scenario)
    return Work(name=f"dpor {scenario}, 1,000 schedules", command=command, speedup=6, compared=without_work)


def differences(before: Any, now: Any, sides: tuple[str, str] = SIDES, at: str = "") -> Iterator[str]:
    """Where *now* is not as *before*, field by field; fields that only *now* has are additions, not differences."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name, value in before.items():
            if name not in NOT_ANSWERS:
                yield from differences(value, now.get(name), sides, f"{at}.{name}" if at else name)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from differences(one, other, sides, f"{at}[{number}]")
    elif before != now:
        yield f"{at} is {_short(before)} {sides[0]}, and {_short(now)} {sides[1]}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# -- the measurement --------------------------------------------------------------------------------------------------


@attrs.define
class Figures:
    """All that was measured so far."""

    rows: list[Row] = attrs.field(factory=list)
    ratios: list[Ratio] = attrs.field(factory=list)
    failures: list[str] = attrs.field(factory=list)

    def add(self, label: str, unit: str, figures: Iterable[float]) -> None:
        """A figure of both trees, the baseline's first."""
        self.rows += [Row(f"{label}: {tree}", value, unit) for tree, value in zip((BEFORE, NOW), figures, strict=True)]

    def hold(self, label: str, before: Answer, now: Answer, sides: tuple[str, str] = SIDES) -> None:
        """Hold the answers against each other; a difference is a failure, with the first one named."""
        first, *others = [*differences(before, now, sides), ""]
        if first:
            more = f" ({len(others)} differences)" if len(others) > 1 else ""
            self.failures.append(f"{label}: the answers differ: {first}{more}")

    def attempt(self, label: str, measure: Callable[[], None]) -> None:
        """Measure; if a tree cannot run it, that is a failure, and the other rows are measured all the same."""
        try:
            measure()
        except ProcessError as error:
            self.failures.append(f"{label}: {error}")


def speed(*, is_full: bool = False) -> Report:
    """CPU time of the same work in this tree and in the baseline, answers compared; two workers; limits; 20 minutes."""
    figures = Figures()
    with both_trees() as (before, now):
        for work in works(is_full=is_full):
            figures.attempt(work.name, partial(compare, figures, before, now, work))
        figures.attempt("workers", partial(compare_workers, figures, before, now))
        longer = MILLION if is_full else LONG
        figures.attempt("long search", partial(compare_long_searches, figures, before, now, longer))
    rows, notes = limits()
    return Report(
        name="speed",
        rows=(*figures.rows, *rows),
        ratios=tuple(figures.ratios),
        failures=tuple(figures.failures),
        notes=(
            f"{BEFORE}: commit {BASELINE}; the trees take turns, in processes of their own; start-up is included",
            "CPU time: user and system time of the process and its workers; ratios: medians of the ratios of a round",
            "equal answers: every field of the baseline's JSON, without times, and the table that growth writes",
            "dpor: the same budget in both trees; with --full to the end, where outcome, classes and findings are held",
            "workers: time by the clock, of the whole process; it means something on two free cores only",
            f"long search: lost update, 8 tasks x 10 rounds, random, {longer:,} schedules against {SCHEDULES:,}",
            *notes,
        ),
    )


def take_turns(run: Callable[[Tree], T], trees: tuple[Tree, Tree], rounds: int) -> tuple[list[T], list[T]]:
    """Run in both trees in each of *rounds*, in reversed order in every second one; return the runs of each tree."""
    done: tuple[list[T], list[T]] = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            done[which].append(run(trees[which]))
    return done


def compare(figures: Figures, before: Tree, now: Tree, work: Work) -> None:
    """Compare the CPU time and the answers of *work*."""
    old, new = take_turns(work.run, (before, now), work.rounds)
    unit = f"{work.counts}/CPU s" if work.counts else "CPU s"
    figures.add(work.name, unit, (statistics.median(map(work.figure, runs)) for runs in (old, new)))
    figures.ratios.append(work.ratio(old, new))
    figures.hold(work.name, work.compared(old[0].answer), work.compared(new[0].answer))


def compare_workers(figures: Figures, before: Tree, now: Tree, rounds: int = 3) -> None:
    """Compare one worker with two, in a search of some length, and in one so short that only their start counts."""

    def search(schedules: int, tree: Tree) -> tuple[Done, Done]:
        command = (*EXPLORE, "--budget", str(schedules), "destroy-vs-offline", "--workers")
        one, two = (Work(name="", command=(*command, workers)).run(tree) for workers in ("1", "2"))
        return one, two

    searches = take_turns(partial(search, SCHEDULES), (before, now), rounds)
    starts = take_turns(partial(search, 2), (before, now), rounds)
    gains = [statistics.median(one.cost.wall / two.cost.wall for one, two in runs) for runs in searches]
    added = [statistics.median(two.cost.wall - one.cost.wall for one, two in runs) for runs in starts]
    name, start = f"explore, {SCHEDULES:,} schedules: two workers / one", "start of two workers"
    figures.add(name, "", gains)
    figures.add(start, "s", added)
    figures.ratios += [
        Ratio(name, gains[1], "at least", 1.85),
        Ratio(f"{start} / {START_LIMIT:g} s", added[1] / START_LIMIT, "at most", 1),
    ]
    (one, two), (_, two_before) = searches[1][0], searches[0][0]
    figures.hold("workers", one.answer, two.answer, ("with one worker", "with two"))
    figures.hold(name, two_before.answer, two.answer)


def compare_long_searches(figures: Figures, before: Tree, now: Tree, longer: int) -> None:
    """Compare the cost of a schedule, and the peak of memory, in a search of *longer* with those in a short one."""

    def search(schedules: int) -> list[Done]:
        def run(tree: Tree) -> Done:
            cost = tree.run("-c", LONG_SEARCH, str(schedules))
            return Done(cost, json.loads(cost.output))

        return [run(tree) for tree in (before, now)]

    short, long = search(SCHEDULES), search(longer)
    costs = [_ratio_of(few.answer, many.answer, _cost) for few, many in zip(short, long, strict=True)]
    peaks = [_ratio_of(few.answer, many.answer, _peak) for few, many in zip(short, long, strict=True)]
    name = f"{longer:,} schedules / {SCHEDULES:,}"
    for schedules, searches in ((SCHEDULES, short), (longer, long)):
        figures.add(f"{schedules:,} schedules: CPU time", "ms/schedule", (_cost(done.answer) for done in searches))
        figures.add(f"{schedules:,} schedules: peak memory", "MiB", (_peak(done.answer) for done in searches))
        figures.hold(f"{schedules:,} schedules", searches[0].answer, searches[1].answer)
    figures.add(f"{name}: CPU time of a schedule", "", costs)
    figures.add(f"{name}: peak memory", "", peaks)
    figures.ratios += [
        Ratio(f"{name}: CPU time of a schedule", costs[1], "at most", FLAT),
        Ratio(f"{name}: peak memory", peaks[1], "at most", FLAT),
    ]


def _cost(answer: Answer) -> float:
    return float(answer["seconds"] / answer["schedules"] * 1e3)


def _peak(answer: Answer) -> float:
    return float(answer["peak"] / 1024)


def _ratio_of(few: Answer, many: Answer, figure: Callable[[Answer], float]) -> float:
    return figure(many) / figure(few)
