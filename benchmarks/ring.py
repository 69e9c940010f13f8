"""`ring`: the cost of a message. Twelve actors stand in a ring and pass numbers on, each decremented by one.

The same work runs on slabrace's two drivers, on plain Trio tasks with memory channels, and on SimPy processes with
stores: take a number, subtract one, hand it to the neighbour; a token is spent when it reaches zero. In the ring of the
goals there is one token, so only one actor can run at a time. A controlled run is like that, and the others are then in
the same position. With several tokens they may do better: Trio runs all ready tasks in one turn of its loop. In
slabrace each delivery is a step of its own, chosen among all possible ones.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import simpy
import trio

from actors.system.actor import Actor, receive
from actors.system.recorder import Recorder
from actors.system.stepper import run_stepper
from actors.system.trio_driver import run_trio
from actors.system.world import World
from benchmarks.measure import ROUNDS, Contestant, Race, how, race
from benchmarks.report import Ratio, Report, Row
from explorer.search.strategies.simple import RandomWalk

ACTORS = 12
SEVERAL = 6
MESSAGES = 60_000

AWAITED = ("plain Trio, channels of 0", "plain Trio, channels of 1")
NOWAIT = "plain Trio, send_nowait"


def ring(*, messages: int = MESSAGES, rounds: int = ROUNDS) -> Report:
    """Messages per second around a ring of actors, on slabrace and on other libraries."""
    one = race(contestants(1, messages), rounds=rounds)
    several = race(contestants(SEVERAL, messages), rounds=rounds)
    return Report(
        name="ring",
        rows=(*_rows(one, "1 token"), *_rows(several, f"{SEVERAL} tokens")),
        ratios=(
            Ratio("1 token: stepper / SimPy", one.ratio("stepper", "SimPy"), goal=3.0),
            Ratio("1 token: Trio driver / plain Trio", one.ratio("Trio driver", *AWAITED), goal=1.0),
            Ratio("1 token: Trio driver / plain Trio, send_nowait", one.ratio("Trio driver", NOWAIT)),
            Ratio(f"{SEVERAL} tokens: stepper / SimPy", several.ratio("stepper", "SimPy"), goal=3.0),
            Ratio(f"{SEVERAL} tokens: Trio driver / plain Trio", several.ratio("Trio driver", *AWAITED)),
            Ratio(f"{SEVERAL} tokens: Trio driver / plain Trio, send_nowait", several.ratio("Trio driver", NOWAIT)),
        ),
        notes=(
            f"{ACTORS} actors, {messages} messages a round; {how(rounds)}",
            "plain Trio is the faster of channels with a buffer of 0 and of 1 in each round; send_nowait never waits",
            "slabrace: strategy random, no recorder unless said; SimPy: put is not waited for, which is faster",
        ),
    )


def contestants(tokens: int, messages: int) -> dict[str, Contestant]:
    """All contestants that pass *messages* in a ring of *tokens*, by name."""
    hops = messages // tokens
    return {
        "stepper": partial(pass_in_slabrace, run_stepper, tokens, hops),
        "stepper, recorded": partial(pass_in_slabrace, run_stepper, tokens, hops, is_recorded=True),
        "Trio driver": partial(pass_in_slabrace, run_trio, tokens, hops),
        "Trio driver, recorded": partial(pass_in_slabrace, run_trio, tokens, hops, is_recorded=True),
        AWAITED[0]: partial(pass_in_trio, _relay_awaited, 0, tokens, hops),
        AWAITED[1]: partial(pass_in_trio, _relay_awaited, 1, tokens, hops),
        NOWAIT: partial(pass_in_trio, _relay_nowait, tokens, tokens, hops),
        "SimPy": partial(pass_in_simpy, tokens, hops),
    }


def _rows(found: Race, load: str) -> list[Row]:
    return [Row(f"{load}: {name}", found.rate(name), "messages/s") for name in found.rates]


def _starts(tokens: int) -> list[int]:
    """The start positions of the tokens, evenly spaced."""
    return [token * ACTORS // tokens for token in range(tokens)]


# -- slabrace ---------------------------------------------------------------------------------------------------------


def pass_in_slabrace(drive: Callable[[World], None], tokens: int, hops: int, *, is_recorded: bool = False) -> int:
    """Pass *tokens*, each *hops* times, as mail between actors; return the messages delivered."""
    world = World(RandomWalk(0), observers=(Recorder(),) if is_recorded else ())
    actors: list[Actor] = []

    async def relay(_actor: Actor, neighbour: int) -> None:
        while True:
            left = await receive()
            if left:
                actors[neighbour].post(left - 1)

    actors += [
        Actor(world, f"actor{place}", main=partial(relay, neighbour=(place + 1) % ACTORS)) for place in range(ACTORS)
    ]
    for place in _starts(tokens):
        actors[place].post(hops - 1)
    drive(world)
    assert world.stopped == "quiescent", f"the ring ended as {world.stopped}"
    return world.steps


# -- plain Trio -------------------------------------------------------------------------------------------------------

Sender = trio.MemorySendChannel[int]
Receiver = trio.MemoryReceiveChannel[int]
Relay = Callable[[Receiver, Sender, Callable[[], None]], Any]


async def _relay_awaited(inbox: Receiver, neighbour: Sender, spend: Callable[[], None]) -> None:
    while True:
        left = await inbox.receive()
        if left:
            await neighbour.send(left - 1)
        else:
            spend()


async def _relay_nowait(inbox: Receiver, neighbour: Sender, spend: Callable[[], None]) -> None:
    while True:
        left = await inbox.receive()
        if left:
            neighbour.send_nowait(left - 1)
        else:
            spend()


def pass_in_trio(relay: Relay, buffer: int, tokens: int, hops: int) -> int:
    """Pass *tokens*, each *hops* times, through memory channels of size *buffer*; return the messages."""

    async def main() -> None:
        channels = [trio.open_memory_channel[int](buffer) for _ in range(ACTORS)]
        unspent = tokens

        def spend() -> None:
            nonlocal unspent
            unspent -= 1
            if not unspent:
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for place in range(ACTORS):
                nursery.start_soon(relay, channels[place][1], channels[(place + 1) % ACTORS][0], spend)
            for place in _starts(tokens):
                await channels[place][0].send(hops - 1)

    trio.run(main)
    return tokens * hops


# -- SimPy ------------------------------------------------------------------------------------------------------------


def pass_in_simpy(tokens: int, hops: int) -> int:
    """Pass *tokens*, each *hops* times, through unbounded stores; return the messages."""
    environment = simpy.Environment()
    stores = [simpy.Store(environment) for _ in range(ACTORS)]

    def relay(inbox: simpy.Store, neighbour: simpy.Store) -> Generator[simpy.Event, int, None]:
        while True:
            left = yield inbox.get()
            if left:
                neighbour.put(left - 1)

    for place in range(ACTORS):
        environment.process(relay(stores[place], stores[(place + 1) % ACTORS]))
    for place in _starts(tokens):
        stores[place].put(hops - 1)
    environment.run()
    return tokens * hops
