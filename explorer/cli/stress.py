"""The command `stress`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
import trio

from explorer import defaults, signals
from explorer.cli.options import check_once, faults, settings
from explorer.cli.parser import refuse
from explorer.garbage import collected_rarely
from explorer.json_out import print_json
from explorer.report import make_console
from explorer.signals import EXIT_INTERRUPTED
from explorer.streams import complain, tell
from explorer.stress.campaign import Limits, Stress, begin, keys_of
from explorer.stress.engines import Engine, Inline, Processes
from explorer.stress.identity import model_hash
from explorer.stress.live import Observer
from explorer.stress.matrix import ALL, Matrix, Request, check_estimates, expand, parse_sweep
from explorer.stress.store import Store
from explorer.stress.summary import answer_json, outcome_of, show_answer
from explorer.stress.symptoms import mark_symptoms
from protocol.errors import UsageError
from protocol.vocabulary import PROFILES

if TYPE_CHECKING:
    from sqlite3 import Row

EXIT_CODES = {
    "ok": 0,
    "finding": 1,
    "refused": 2,
    "failed": 3,
    "lost": 3,
    "diverged": 4,
    "interrupted": EXIT_INTERRUPTED,
}
OF_THE_MATRIX = (
    "--kernel",
    "--variant",
    "--patch",
    "--without",
    "--oracle",
    "--set",
    "--sweep",
    "--swarm",
    "--fault",
    "--check",
    "--strategy",
    "--seed",
)
"""The options that describe a campaign; the others are about this part of it."""


def main(options: argparse.Namespace) -> int:
    """Run a campaign, or go on with one; return the exit code."""
    if options.cluster is not None:
        refuse(options, "--cluster, whose workers run the jobs", ["--workers", "--memory"])
    wanted = request_of(options) if asks_for_matrix(options) else None
    if wanted is not None:
        expand(wanted)  # a request that does not fit is refused before a store is made
        check_limits(options, wanted)
    engine = make_engine(options)  # as is a cluster that is not there
    observer = Observer(options.events)
    try:
        with signals.held_back(), collected_rarely(), Store(options.store, writes=True) as store:
            campaign, request = choose_campaign(store, wanted)
            check_limits(options, request)
            limits = Limits(options.budget, options.soak and options.soak * 3600, options.until_quiet)
            stress = Stress(store, campaign, request, engine, limits, options.trio_share, observer)
            observer.stress = stress
            with signals.held_back(firmly=True):
                trio.run(stress.run)
            if stress.stopped != "interrupted":
                with signals.let_through():
                    mark_symptoms(store, campaign, request.seed)
                stress.take_totals()
            observer.close()
            signals.take_pending()
            if options.json:
                print_json(answer_json(stress))
            else:
                show_answer(make_console(), stress)
            if stress.changed:
                complain(stress.changed)
            return EXIT_CODES[outcome_of(stress)]
    finally:
        observer.close()


def check_limits(options: argparse.Namespace, request: Request) -> None:
    """UsageError if the campaign could never come to its end."""
    if options.until_quiet is not None:
        check_estimates(request.strategies)


def asks_for_matrix(options: argparse.Namespace) -> bool:
    """Whether the options describe a campaign; otherwise the latest one of the store goes on."""
    return bool(options.scenarios) or any(option in options.given for option in OF_THE_MATRIX)


def request_of(options: argparse.Namespace) -> Request:
    """The campaign that the options describe."""
    swept = [parse_sweep(text) for text in options.sweep]
    check_once("--sweep", [name for name, _ in swept])
    kernels = split(options.kernel or [defaults.KERNEL])
    return Request(
        scenarios=tuple(options.scenarios),
        kernels=tuple(PROFILES) if kernels == [ALL] else tuple(kernels),
        variants=tuple(options.variant) or ("",),
        patches=tuple(options.patch),
        without=tuple(options.without),
        oracles=tuple(options.oracle),
        settings=settings(options.set),
        sweeps=dict(swept),
        faults=faults(options.fault),
        strategies=tuple(split(options.strategy or [defaults.STRESS_STRATEGY])),
        check=defaults.CHECK if options.check is None else options.check,
        swarm=options.swarm,
        seed=options.seed,
    )


def split(values: Iterable[str]) -> list[str]:
    """The values of an option that takes several, with commas or by being given again; each once."""
    return list(dict.fromkeys(part for value in values for part in value.split(",")))


def choose_campaign(store: Store, wanted: Request | None) -> tuple[int, Request]:
    """The campaign to run: the latest one if it is wanted and its code is the same, otherwise a new one."""
    latest = store.latest()
    if wanted is None:
        wanted = (
            request_in(latest)
            if latest is not None
            else Request(kernels=(defaults.KERNEL,), strategies=(defaults.STRESS_STRATEGY,))
        )
    with signals.let_through():
        matrix = expand(wanted)
        keys = keys_of(matrix, wanted.seed)
    for line in matrix.left_out:
        tell(f"left out: {line}")
    if latest is None or request_in(latest) != wanted:
        return announced(store, wanted, matrix, "")
    if keys != store.keys(latest["id"]):
        what = "slabrace's model" if latest["model"] != model_hash() else "a file"
        return announced(store, wanted, matrix, f": {what} has changed since campaign {latest['id']}")
    tell(f"campaign {latest['id']} goes on: {matrix_in_words(matrix)}")
    return latest["id"], wanted


def announced(store: Store, request: Request, matrix: Matrix, why: str) -> tuple[int, Request]:
    """Begin a campaign, and say so."""
    campaign = begin(store, request, matrix)
    tell(f"campaign {campaign} begins{why}: {matrix_in_words(matrix)}")
    return campaign, request


def matrix_in_words(matrix: Matrix) -> str:
    """The number of cells."""
    return f"{len(matrix.points)} cell{'s' if len(matrix.points) != 1 else ''}"


def request_in(row: Row) -> Request:
    """The request of a campaign of the store."""
    return msgspec.json.decode(row["request"], type=Request)


def make_engine(options: argparse.Namespace) -> Engine:
    """The engine that the options name."""
    if options.cluster is not None:
        from explorer.stress.cluster import Cluster  # noqa: PLC0415 -- an extra

        return Cluster(options.cluster, options.job_seconds)
    cpus = len(os.sched_getaffinity(0))
    workers = options.workers or cpus
    if workers > defaults.MOST_PER_CPU * cpus:
        msg = f"--workers {workers}: at most {defaults.MOST_PER_CPU * cpus} on this machine; --cluster uses several"
        raise UsageError(msg)
    if workers == 1:
        refuse(options, "one worker, which is this process", ["--memory", "--job-seconds"])
        return Inline()
    return Processes(workers, options.memory << 20, options.job_seconds)
