"""Deadlocks: the cycle of flows that wait for each other. Its name does not depend on the order of arrival.

A flow waits for the flows that the requested object names (`Shared.blockers`). A flow that is ready but kept off its
CPU waits for the flow that keeps the CPU. A place in the cycle is named by function and operation, so it has the same
name in every run; the point at which a flow was interrupted does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from actors.system.flow import Flow

CPU = "a CPU"


@attrs.frozen
class Deadlock:
    """Flows that wait for each other, each for the next and the last for the first; without a cycle, all that wait.

    `others` are the stuck flows outside the cycle.
    """

    flows: tuple[Flow, ...]
    others: tuple[Flow, ...]
    is_cycle: bool

    @classmethod
    def among(cls, stuck: Iterable[Flow]) -> Deadlock:
        """The shortest cycle among flows that cannot go on; of several, the first by name."""
        waits = {flow: [one for one in blockers_of(flow) if not one.finished] for flow in stuck}
        cycles = [cycle for flow in waits if (cycle := shortest_cycle(waits, flow))]
        if cycles:
            flows = min((rotated(cycle) for cycle in cycles), key=lambda cycle: (len(cycle), names_of(cycle)))
        else:
            flows = tuple(sorted(real_waits(waits), key=lambda flow: (place_of(flow), flow.name)))
        return cls(flows, tuple(flow for flow in waits if flow not in flows), bool(cycles))

    @property
    def name(self) -> str:
        """The name of the deadlock in its signature."""
        places = names_of(self.flows)
        return " -> ".join(places if self.is_cycle else dict.fromkeys(places))

    @property
    def lines(self) -> list[str]:
        """One line for each flow with the object it waits for, the flows of the cycle first."""
        first = [f"{describe(flow)}{'; ' + self.next_in_words(flow) if self.is_cycle else ''}" for flow in self.flows]
        return [*first, *map(describe, self.others)]

    def next_in_words(self, flow: Flow) -> str:
        """The flow of the cycle that *flow* waits for, as the end of a report line."""
        goal = self.flows[(self.flows.index(flow) + 1) % len(self.flows)]
        return f"so it waits for {goal.name}"


def real_waits(waits: Mapping[Flow, list[Flow]]) -> list[Flow]:
    """The flows that wait for an object of their own, not only for other stuck flows; all flows if there are none."""
    return [flow for flow, others in waits.items() if not others and flow.request.target is not None] or [*waits]


def blockers_of(flow: Flow) -> tuple[Flow, ...]:
    """The flows that must act before *flow* can go on."""
    if is_kept_off(flow):
        keeper = flow.cpu.keeper if flow.cpu is not None else None
        return (keeper,) if keeper is not None else ()
    target = flow.request.target
    return target.blockers(flow) if target is not None else ()


def is_kept_off(flow: Flow) -> bool:
    """Whether *flow* could step if another flow did not keep its CPU."""
    return flow.ready and flow.cpu is not None and flow.cpu.keeper not in {None, flow}


def shortest_cycle(waits: Mapping[Flow, list[Flow]], start: Flow) -> list[Flow]:
    """The shortest way from *start* back to itself; empty if there is none."""
    ways = [[start]]
    seen: set[Flow] = set()
    while ways:
        way = ways.pop(0)
        for other in waits[way[-1]]:
            if other is start:
                return way
            if other in waits and other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []


def rotated(cycle: list[Flow]) -> tuple[Flow, ...]:
    """The same cycle, beginning at its first place by name."""
    first = min(range(len(cycle)), key=lambda at: names_of(cycle[at:] + cycle[:at]))
    return tuple(cycle[first:] + cycle[:first])


def names_of(flows: Iterable[Flow]) -> list[str]:
    """The places in the cycle, by names that are the same in every run."""
    return [place_of(flow) for flow in flows]


def place_of(flow: Flow) -> str:
    """The function in which a flow waits, and the operation it waits for."""
    return CPU if is_kept_off(flow) else f"{flow.request.code.co_name}({flow.request.info.name})"


def describe(flow: Flow) -> str:
    """A report line: a flow and the object it waits for."""
    request = flow.request
    if is_kept_off(flow):
        assert flow.cpu is not None, "a flow that is kept off a CPU has one"
        return f"{flow.name} waits in {request.code.co_name} for {flow.cpu.label}, kept by {blockers_of(flow)[0].name}"
    of = f" of {request.target.label}{request.target.held_by}" if request.target else ""
    return f"{flow.name} waits in {request.code.co_name} for {request.info.name}{of}"
