"""`python -m tests.litmus --programs 10000 --seed 1`: many random programs against the reference, on all cores."""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.litmus.many import Chunk, Tally, run_chunk, smallest
from tests.litmus.mutants import MUTANTS, try_mutant
from tests.litmus.programs import RCU_MODES, compare, random_program

CHUNK = 25
SHOWN = 3


def chunks(options: argparse.Namespace) -> Iterator[Chunk]:
    """The requested programs, in chunks."""
    first, end = options.seed * 1_000_000, options.seed * 1_000_000 + options.programs
    for seed in range(first, end, CHUNK):
        yield Chunk(seed, min(CHUNK, end - seed), options.samples, options.budget)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.litmus", description=__doc__)
    parser.add_argument("--programs", type=int, default=1_000, help="how many (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    parser.add_argument("--samples", type=int, default=10, help="schedules of each sampler, mode and program")
    parser.add_argument("--budget", type=int, default=3_000, help="the most schedules of an exact search")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--show", type=int, default=SHOWN, help="how many programs that differ to shrink and show")
    parser.add_argument("--mutants", action="store_true", help="take out each clause of the relation instead")
    parser.add_argument("--only", type=int, help="the seed of one program: show it, and compare it")
    return parser.parse_args(arguments)


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")


def show(tally: Tally, options: argparse.Namespace, seconds: float) -> None:
    """Print the totals, and the smallest programs that differ."""
    say(
        f"{tally.programs} programs, {' and '.join(RCU_MODES)}: {tally.outcomes} outcomes; dpor ran {tally.schedules} "
        f"schedules to their end and cut off {tally.cut_off}, {tally.samples} were sampled; {tally.too_large} programs "
        f"were too large; {seconds:.0f} s, {tally.programs / seconds:.0f} programs/s"
    )
    say(f"{len(tally.wrong)} programs differ")
    for size, seed, differences in sorted(tally.wrong, key=lambda wrong: wrong[:2])[: options.show]:
        program, difference = smallest(random_program(seed), differences[0], options.budget)
        say(f"\nprogram {seed} ({size} statements), shrunk:\n{program}\n{difference}")


def show_mutants(options: argparse.Namespace) -> int:
    """Print the table of the clauses, each with the number of programs tried; return 1 if one was not shown."""
    try_one = functools.partial(try_mutant, first=options.seed * 1_000_000, most=options.programs)
    shown = 0
    with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
        for verdict in pool.map(try_one, [mutant.name for mutant in MUTANTS]):
            shown += verdict.program is not None
            answer = verdict.difference if verdict.program is not None else "NOT SHOWN"
            say(f"{verdict.mutant:50} {verdict.programs:6} programs: {answer}")
    say(f"{shown} of {len(MUTANTS)} clauses are shown to be needed")
    return int(shown < len(MUTANTS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the programs, and return 1 if there is a difference."""
    options = parse(arguments)
    if options.mutants:
        return show_mutants(options)
    began = time.monotonic()
    tally = Tally()
    if options.only is not None:
        program = random_program(options.only)
        say(str(program))
        tally.add(options.only, program, compare(program, budget=options.budget, samples=options.samples))
    elif options.workers == 1:
        for chunk in chunks(options):
            tally.merge(run_chunk(chunk))
    else:
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
            for part in pool.map(run_chunk, chunks(options)):
                tally.merge(part)
    show(tally, options, time.monotonic() - began)
    return bool(tally.wrong)


if __name__ == "__main__":
    sys.exit(main())
