"""The exact search tries freeing an element before and after all that others do beside it on its list."""

from __future__ import annotations

import attrs
import pytest

from actors.machine.list_head import ListEntry, ListHead
from actors.system.actor import Actor, Shared
from actors.system.flow import Flow
from actors.system.world import World
from explorer.search.jobs import Report
from explorer.search.strategies.dfs import Dfs
from explorer.search.strategies.dpor import Dpor
from protocol.operations import READ, UPDATE, operation
from tests.search.programs import Body, Program, cells, run


@attrs.define(eq=False)
class Thing(ListEntry):
    """Something with a list_head."""

    name: str

    @property
    def label(self) -> str:
        return self.name


@attrs.define(eq=False)
class Owner(Shared):
    """Has a list, and lets others change it."""

    head: ListHead[Thing] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.head = ListHead(self, "head")

    @operation(UPDATE, part="head")
    def unlink(self, thing: Thing) -> None:
        self.head.list_del(thing)

    @operation(UPDATE, part="head")
    def append(self, thing: Thing) -> None:
        self.head.list_add_tail(thing)

    @operation(READ, part="head")
    def walk(self) -> None:
        self.head.walk()


def race(other: str, *, unlinks_first: bool, frees_last: bool) -> Program:
    """One flow frees the first of three things on a list, perhaps taken off by then; *other* is what another does."""

    def program(world: World) -> list[Body]:
        owner = Owner(Actor(world, "owner"))
        a, b, c, new = [Thing(Actor(world, name), name) for name in ("a", "b", "c", "new")]
        for thing in (c, b, a):
            owner.head.list_add(thing)
        (cell,) = cells(world, 1)

        async def free(flow: Flow) -> None:
            if unlinks_first:
                await flow.ask(owner.unlink, a)
            await flow.ask(cell.read)
            a.touch(UPDATE)
            a.freed = "free()"
            a.free_links()

        async def use(flow: Flow) -> None:
            await flow.ask(cell.read)
            if other == "unlink it":
                await flow.ask(owner.unlink, a)
            elif other == "unlink beside it":
                await flow.ask(owner.unlink, b)
            elif other == "unlink far from it":
                await flow.ask(owner.unlink, c)
            elif other == "walk":
                await flow.ask(owner.walk)
            else:
                await flow.ask(owner.append, new)

        return [use, free] if frees_last else [free, use]

    return program


def outcomes(program: Program, search: Dfs | Dpor) -> set[tuple[str, ...]]:
    """What each schedule of the search reports."""
    found = set()
    while (schedule := search.next_schedule()) is not None:
        world, _ = run(program, schedule)
        if isinstance(search, Dpor):
            search.learn(schedule, Report())  # type: ignore[arg-type]  # its own
        if world.stopped != "asleep":
            found.add(tuple(sorted(finding.message for finding in world.findings.values())))
    return found


FOUND = {"unlink it": 2, "unlink beside it": 2, "unlink far from it": 1, "walk": 2, "append": 1}
"""How many different ends there are if the thing is freed while it is on the list: only who comes beside it sees it."""


@pytest.mark.parametrize("frees_last", [False, True])
@pytest.mark.parametrize("unlinks_first", [False, True])
@pytest.mark.parametrize("other", FOUND)
def test_the_exact_search_finds_all_that_brute_force_does(
    other: str,
    *,
    unlinks_first: bool,
    frees_last: bool,
) -> None:
    """Whichever of the two the first schedule lets go first."""
    program = race(other, unlinks_first=unlinks_first, frees_last=frees_last)
    found = outcomes(program, Dpor())

    assert found == outcomes(program, Dfs())
    assert unlinks_first or len(found) == FOUND[other]
