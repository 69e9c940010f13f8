"""The exhaustive search tries the free of an element before and after all accesses to its neighbours on the list."""

from __future__ import annotations

import attrs
import pytest

from actors.machine.list_head import ListEntry, ListHead
from actors.system.actor import Actor, Shared
from actors.system.flow import Flow
from actors.system.world import World
from explorer.search.jobs import JobReport
from explorer.search.strategies.dfs import Dfs
from explorer.search.strategies.dpor import Dpor
from protocol.operations import READ, UPDATE, operation
from tests.search.programs import Body, Program, cells, run


@attrs.define(eq=False)
class Thing(ListEntry):
    """An object with a list_head."""

    name: str

    @property
    def label(self) -> str:
        return self.name


@attrs.define(eq=False)
class Owner(Shared):
    """The owner of a list that flows change."""

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
    """One flow frees the first of three things on a list, perhaps after it unlinks it; another one does *other*."""

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
    """The messages of the findings of each schedule of the search."""
    found = set()
    while (schedule := search.next_schedule()) is not None:
        world, _ = run(program, schedule)
        if isinstance(search, Dpor):
            search.learn(schedule, JobReport())  # type: ignore[arg-type]  # its own
        if world.stopped != "asleep":
            found.add(tuple(sorted(finding.message for finding in world.findings.values())))
    return found


FOUND = {"unlink it": 2, "unlink beside it": 2, "unlink far from it": 1, "walk": 2, "append": 1}
"""The number of different outcomes if the thing is freed on the list: only accesses to its neighbours notice it."""


@pytest.mark.parametrize("frees_last", [False, True])
@pytest.mark.parametrize("unlinks_first", [False, True])
@pytest.mark.parametrize("other", FOUND)
def test_the_exhaustive_search_finds_everything_that_brute_force_finds(
    other: str,
    *,
    unlinks_first: bool,
    frees_last: bool,
) -> None:
    """Both with the free first and with it last in the first schedule."""
    program = race(other, unlinks_first=unlinks_first, frees_last=frees_last)
    found = outcomes(program, Dpor())

    assert found == outcomes(program, Dfs())
    assert unlinks_first or len(found) == FOUND[other]
