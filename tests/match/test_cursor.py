"""Cursors: entries that wait for their lines, lines with equal timestamps, the mapping of flows, the end of a trace."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from actors.system.cpu import Cpu
from actors.system.flow import Flow, Kind
from actors.system.strategy import InTurn
from actors.system.world import World
from actors.versions.kernel_fn import FunctionTable
from explorer.match.cursor import Cursor, Entry, TracedEvent, read_events
from explorer.match.scope import make_scope
from protocol.errors import UsageError
from protocol.formats.ftrace import parse_ftrace
from tests.match.traces import HEAD


class Machine:
    """Flows on two CPUs and their function entries."""

    def __init__(self) -> None:
        self.world = World(InTurn())
        self.cpus = [Cpu.boot(self.world, number) for number in range(2)]

    def flow(self, name: str, kind: Kind = Kind.TASK, cpu: int = 0) -> Flow:
        return Flow(self.world, name, kind, self.cpus[cpu])


def entry(flow: Flow, function: str, *callers: str) -> Entry:
    assert flow.cpu is not None
    return Entry(flow, function, callers, flow.cpu.id, 0)


def events(*rows: str) -> tuple[TracedEvent, ...]:
    """Lines `task cpu flags time function caller`, parsed as the command parses them."""
    lines = []
    for row in rows:
        task, cpu, flags, time, function, caller = row.split()
        lines.append(f"{task} [00{cpu}] {flags} 1.{int(time):06}: {function} <-{caller}")
    trace = parse_ftrace((HEAD + "\n".join(lines)).encode(), source="t.txt")
    return read_events(trace, make_scope(FunctionTable("5.3", "slub"), trace))


def cursor(found: Iterable[TracedEvent], *, open_end: bool = False) -> Cursor:
    return Cursor(found, open_end=open_end)


TWO_FLOWS = ("a-1 0 .... 1 kill_css x", "b-2 1 .... 2 css_release x", "a-1 0 .... 3 shutdown_cache x")


def test_an_entry_whose_line_is_due_is_matched_at_once() -> None:
    machine, trace = Machine(), cursor(events(*TWO_FLOWS))

    assert trace.enter(entry(machine.flow("one"), "kill_css"))
    assert [event.function for event, _ in trace.matched] == ["kill_css"]
    assert trace.due()[0].function == "css_release"


def test_an_entry_before_its_line_keeps_its_flow_from_stepping() -> None:
    machine, trace = Machine(), cursor(events(*TWO_FLOWS))
    one, two = machine.flow("one"), machine.flow("two", cpu=1)
    trace.enter(entry(two, "css_release"))

    assert trace.has_pending(two)
    assert not trace.matched

    trace.enter(entry(one, "kill_css"))
    assert not trace.has_pending(two)
    assert [event.function for event, _ in trace.matched] == ["kill_css", "css_release"]


def test_a_flow_that_does_something_else_is_a_mismatch() -> None:
    machine, trace = Machine(), cursor(events(*TWO_FLOWS))
    one = machine.flow("one")
    trace.enter(entry(one, "kill_css"))

    assert not trace.enter(entry(one, "css_release"))
    assert trace.mismatch is not None
    assert [event.function for event in trace.mismatch.expected] == ["shutdown_cache"]


def test_a_flow_that_does_something_before_the_others_must_still_do_the_right_thing() -> None:
    machine, trace = Machine(), cursor(events(*TWO_FLOWS))

    assert not trace.enter(entry(machine.flow("two", cpu=1), "shutdown_cache"))


def test_a_caller_that_the_model_knows_must_be_one_of_the_callers() -> None:
    machine = Machine()
    lines = events("a-1 0 .... 1 discard_slab __slab_free", "a-1 0 .... 2 __free_slab nobody_knows")
    trace = cursor(lines)
    one = machine.flow("one")

    assert [event.caller for event in lines] == ["__slab_free", ""]
    assert not cursor(lines).enter(entry(one, "discard_slab", "deactivate_slab", "flush_slab"))
    assert trace.enter(entry(one, "discard_slab", "keep_or_discard_empty", "__slab_free"))
    assert trace.enter(entry(one, "__free_slab", "discard_slab"))
    assert trace.is_done


@pytest.mark.parametrize("first", [0, 1])
def test_lines_of_one_moment_on_two_cpus_have_no_order(first: int) -> None:
    machine = Machine()
    trace = cursor(events("a-1 0 .... 5 kill_css x", "b-2 1 .... 5 css_release x"))
    flows = [(machine.flow("one"), "kill_css"), (machine.flow("two", cpu=1), "css_release")]
    flow, function = flows[first]

    trace.enter(entry(flow, function))

    assert len(trace.matched) == 1


def test_lines_of_one_moment_on_one_cpu_have_their_order() -> None:
    machine = Machine()
    trace = cursor(events("a-1 0 .... 5 kill_css x", "b-2 0 .... 5 css_release x"))

    assert trace.enter(entry(machine.flow("two"), "css_release"))
    assert not trace.matched


def test_an_interrupt_of_a_task_is_a_flow_of_its_own() -> None:
    lines = events("a-1 0 .... 1 kill_css x", "a-1 0 ..s. 2 i_callback x", "a-1 0 d.h. 3 discard_slab x")

    assert [event.flow.kind for event in lines] == [Kind.TASK, Kind.SOFTIRQ, Kind.HARDIRQ]


def test_cpus_of_the_trace_are_whichever_the_model_chose_first_and_then_stay() -> None:
    machine = Machine()
    rows = ("a-1 1 .... 1 kill_css x", "<idle>-0 1 ..s. 2 i_callback x", "<idle>-0 0 d.h. 3 discard_slab x")
    trace = cursor(events(*rows))
    trace.enter(entry(machine.flow("one", cpu=0), "kill_css"))

    assert trace.binding.cpus == {1: 0}
    assert not cursor(events(*rows)).enter(entry(machine.flow("kw", Kind.KWORKER), "kill_css"))
    assert trace.enter(entry(machine.flow("si/0", Kind.SOFTIRQ, cpu=0), "i_callback"))
    assert not trace.enter(entry(machine.flow("hi/0", Kind.HARDIRQ, cpu=0), "discard_slab"))


def test_two_kworkers_of_a_cpu_are_two_flows() -> None:
    machine = Machine()
    trace = cursor(events("kworker/0:1-9 0 .... 1 kmemcg_workfn x", "kworker/0:2-8 0 .... 2 css_release x"))
    one, two = machine.flow("kw:0", Kind.KWORKER), machine.flow("kw:1", Kind.KWORKER)
    trace.enter(entry(one, "kmemcg_workfn"))

    assert not trace.enter(entry(one, "css_release"))

    trace.mismatch = None
    assert trace.enter(entry(two, "css_release"))
    assert trace.is_done


def test_after_the_last_line_nothing_may_be_entered() -> None:
    machine, one = Machine(), "kill_css"
    trace = cursor(events("a-1 0 .... 1 kill_css x"))
    flow = machine.flow("one")
    trace.enter(entry(flow, one))

    assert trace.is_done
    assert not trace.enter(entry(flow, "css_release"))
    assert trace.mismatch is not None
    assert not trace.mismatch.expected


def test_behind_an_open_end_anything_may_be_entered() -> None:
    machine = Machine()
    trace = cursor(events(*TWO_FLOWS), open_end=True)
    one, two = machine.flow("one"), machine.flow("two", cpu=1)
    for flow, function in ((one, "kill_css"), (two, "css_release"), (two, "i_callback")):
        assert trace.enter(entry(flow, function))

    assert trace.has_pending(two), "the trace has two lines of others, before whose time it must not go on"
    assert trace.enter(entry(one, "shutdown_cache"))
    assert [found.function for found in trace.after] == ["i_callback"]
    assert not trace.has_pending(two)


def test_lines_behind_lost_events_are_not_compared() -> None:
    text = (
        HEAD
        + "a-1 [000] .... 1.000001: kill_css <-x\nCPU:0 [LOST 3 EVENTS]\na-1 [000] .... 1.000009: css_release <-x\n"
    )
    trace = parse_ftrace(text.encode(), source="t.txt")

    assert [event.function for event in read_events(trace, make_scope(FunctionTable("5.3", "slub"), trace))] == [
        "kill_css"
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a-1 0 d.Z. 1 kill_css x", "t.txt:3: kill_css() in an NMI"),
        ("kworker/u4:1-9 0 .... 1 kill_css x", "t.txt:3: kworker/u4:1 is bound to no CPU"),
    ],
)
def test_flows_that_the_model_has_none_of_are_refused(row: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        events(row)

    assert str(caught.value).startswith(message)
