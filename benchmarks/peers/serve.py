"""A peer process: reads what to do from standard input, a line of JSON each, and answers with one.

`python -m benchmarks.peers.serve PEER`, in an environment that has the peer. A request names a program, its size, the
peer's strategy, a seed and how many schedules at most; one that `hunts` stops at the first flaw. The answer is how many
schedules that were, and whether the flaw was found.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import io
import json
import sys
from importlib import metadata
from typing import Any

from benchmarks.peers.programs import Program, make


async def run_all(program: Program, request: dict[str, Any]) -> None:
    """Run the tasks of *program* once; AssertionError if the flaw is looked for and there."""
    make_state, workers, is_bad = program
    state = make_state()
    await asyncio.gather(*(worker(state) for worker in workers))
    if request["hunts"]:
        assert not is_bad(state)


def search_detangle(program: Program, request: dict[str, Any]) -> tuple[int, bool]:
    """Search with detangle."""
    import detangle  # noqa: PLC0415 -- each peer is only there in its own environment

    try:
        stats = detangle.explore(
            lambda: run_all(program, request),
            runs=request["schedules"],
            strategy=request["strategy"],
            seed=request["seed"],
            shrink=False,
            database=False,
        )
    except detangle.BugFound as bug:
        return bug.report.runs, True
    return stats.runs, False


def search_frontrun(program: Program, request: dict[str, Any]) -> tuple[int, bool]:
    """Search with frontrun, on asyncio tasks."""
    import frontrun  # noqa: PLC0415 -- as above

    make_state, workers, is_bad = program
    strategy, hunts = request["strategy"], request["hunts"]
    if strategy == "random":
        more = {"max_attempts": request["schedules"], "seed": request["seed"]}
    else:
        more = {"max_executions": request["schedules"], "stop_on_first": hunts, "preemption_bound": None}
        more |= {"reproduce_on_failure": 0}

    async def main() -> Any:
        return await frontrun.explore(
            setup=make_state,
            workers=list(workers),
            invariant=lambda state: not (hunts and is_bad(state)),
            strategy=strategy,
            deadlock_timeout=0.2,
            **more,
        )

    result = asyncio.run(main())
    return result.num_explored, result.property_holds is False


def search_simloom(program: Program, request: dict[str, Any]) -> tuple[int, bool]:
    """Search with simloom."""
    import simloom  # noqa: PLC0415 -- as above

    found = simloom.explore(
        lambda: run_all(program, request),
        runs=request["schedules"],
        start_seed=request["seed"] * request["schedules"],
        scheduler=request["strategy"],
    )
    return found.runs, found.failed


def main() -> None:
    """Answer until there is nothing more to do."""
    peer = sys.argv[1]
    importlib.import_module(peer)
    search = {"detangle": search_detangle, "frontrun": search_frontrun, "simloom": search_simloom}[peer]
    out = sys.stdout
    print(json.dumps({"version": metadata.version(peer)}), file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        program = make(request["program"], request["arguments"])
        gc.collect()
        gc.disable()
        with contextlib.redirect_stdout(io.StringIO()):
            count, is_found = search(program, request)
        gc.enable()
        print(json.dumps({"schedules": count, "found": is_found}), file=out, flush=True)


if __name__ == "__main__":
    main()
