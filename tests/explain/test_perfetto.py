"""The Chrome trace: the rules of the Trace Event Format that a viewer relies on."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from explorer.explain import FORMATS, Explanation
from explorer.explain.perfetto import to_perfetto
from tests.explain.stages import explain, wakes_up

Event = dict[str, Any]

KEYS = {
    "M": {"pid", "tid", "name", "args"},
    "X": {"pid", "tid", "name", "cat", "ts", "dur", "args"},
    "s": {"pid", "tid", "name", "cat", "ts", "id"},
    "f": {"pid", "tid", "name", "cat", "ts", "id", "bp"},
    "C": {"pid", "tid", "name", "ts", "args"},
    "i": {"pid", "tid", "name", "cat", "ts", "s", "args"},
}


def by_track(events: list[Event], phase: str) -> dict[tuple[int, int], list[Event]]:
    """The events of one phase, track by track."""
    tracks: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in events:
        if event["ph"] == phase:
            tracks[event["pid"], event["tid"]].append(event)
    return tracks


def check(trace: dict[str, Any]) -> list[Event]:
    """Check a trace against the format; return its events."""
    events: list[Event] = json.loads(json.dumps(trace))["traceEvents"]
    for event in events:
        assert set(event) - {"ph"} == KEYS[event["ph"]]
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["name"], str)
        assert event["name"]
        assert event["ph"] == "M" or event["ts"] >= 0
    times = [event["ts"] for event in events if event["ph"] != "M"]
    assert times == sorted(times)
    for track in by_track(events, "X").values():
        check_nested(track)
    check_arrows(events)
    check_counters(events)
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert set(by_track(events, "X")) <= named
    return events


def check_nested(track: list[Event]) -> None:
    """Check that each slice lies within the slice that is open when it begins."""
    ends: list[int] = []
    for event in track:
        start, end = event["ts"], event["ts"] + event["dur"]
        while ends and ends[-1] <= start:
            ends.pop()
        assert event["dur"] > 0
        assert not ends or end <= ends[-1]
        ends.append(end)


def check_arrows(events: list[Event]) -> None:
    """Check that each arrow has one beginning and a later end, both within a slice of their tracks."""
    starts = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    assert len(starts) == sum(event["ph"] == "s" for event in events)
    assert starts.keys() == ends.keys()
    slices = by_track(events, "X")
    for number, start in starts.items():
        end = ends[number]
        assert start["ts"] < end["ts"]
        assert end["bp"] == "e"
        for event in (start, end):
            track = slices[event["pid"], event["tid"]]
            assert any(one["ts"] <= event["ts"] < one["ts"] + one["dur"] for one in track)


def check_counters(events: list[Event]) -> None:
    """Check that each counter is a number."""
    for event in events:
        if event["ph"] == "C":
            assert all(isinstance(value, int) for value in event["args"].values())


def test_the_trace_is_well_formed_and_shows_all_steps(explanation: Explanation) -> None:
    events = check(to_perfetto(explanation))

    steps = [event for event in events if event.get("cat") == "step"]
    assert [event["args"]["step"] for event in steps] == [step.number for step in explanation.trace.steps]
    tracks = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"cpu0", "cpu1"} <= tracks


def test_flows_are_round_their_steps(explanation: Explanation) -> None:
    events = check(to_perfetto(explanation))

    names = {event["name"] for event in events if event.get("cat") == "function"}
    assert {"user", "freer", "bystander"} <= names


def test_the_finding_and_the_conflict_are_instants(explanation: Explanation) -> None:
    instants = [event for event in check(to_perfetto(explanation)) if event["ph"] == "i"]

    assert instants[-1]["s"] == "g"
    assert instants[-1]["args"]["signature"] == explanation.finding.signature
    assert {"conflict: first", "conflict: second"} <= {event["name"] for event in instants}


def test_the_conflict_is_an_arrow(explanation: Explanation) -> None:
    events = check(to_perfetto(explanation))

    assert any(event["ph"] == "s" and event["name"] == "box" for event in events)


def test_wake_ups_are_arrows_and_references_are_counters() -> None:
    events = check(to_perfetto(explain(wakes_up)))

    assert any(event["ph"] == "s" and event["name"] == "wakes" for event in events)
    values = [event["args"]["references"] for event in events if event["ph"] == "C" and event["name"] == "box"]
    assert values == [0, 2]


def test_the_file_is_json(explanation: Explanation) -> None:
    assert json.loads(FORMATS["perfetto"](explanation))["otherData"]["scenario"] == "toy"
