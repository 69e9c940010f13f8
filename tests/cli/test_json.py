"""docs/json.md names every field of every object that a command prints, and no other."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgpack

from actors.machine.context import WARN_ON, Context
from explorer.cli.selftest import SelfTestResult, selftest_json
from explorer.explain.as_json import to_json as explanation_json
from explorer.growth.fleet import Fleet, HostRun
from explorer.growth.host import Day, HostJob
from explorer.growth.reaper import Waits, Walks
from explorer.growth.report import Comparison
from explorer.growth.report import to_json as growth_json
from explorer.growth.walk import walk_json
from explorer.json_out import SCHEMA, json_text
from explorer.selftest import STATE, Violation
from explorer.stress.queries import QUESTIONS
from tests.cli.page import Page
from tests.conftest import Command
from tests.explain.stages import explain, explain_free
from tests.helpers import pack, read_payloads, write_payloads
from tests.selftest.test_commutation import nothing, two_tasks, violations_of
from tests.stress.stores import built_in
from tests.tidy.sources import ROOT

TRACES = ROOT / "tests" / "data"

Printed = Iterable[tuple[str, Any]]
"""Printed objects, each with the heading of its table on the page."""


def told(command: Command, *words: object) -> Any:
    """The JSON that a command prints with --json."""
    answer = command(*words, "--json")
    assert answer.out, answer.err
    return json.loads(answer.out)


def runs(command: Command) -> Printed:
    yield "run and replay", told(command, "run", "canary", "--set", "rounds=1", "--seed", 1, "--log", "canary.log")
    yield (
        "run and replay",
        told(command, "run", "shared-dentry", "--set", "generations=2", "--set", "every=1", "--log", "s.log"),
    )
    yield (
        "run and replay",
        told(command, "run", "moved-tasks", "--kernel", "6.12", "--set", "generations=1", "--no-log"),
    )
    yield "run and replay", told(command, "run", "mixed-operations", "--set", "operations=1", "--no-log")
    told(command, "run", "rmdir-empty", "--kernel", "v7", "--seed", 2, "--log", "v7.log")
    yield "run and replay", told(command, "replay", "canary.log")
    diverged = told(command, "replay", "v7.log", "--patch", "work-fn-store-after-free")
    assert diverged["outcome"] == "diverged"
    yield "run and replay", diverged


def findings(command: Command) -> Printed:
    yield "keep", told(command, "keep", "canary.log", "--name", "lost")
    kept = Path("regressions/lost.json")
    yield "keep --check", told(command, "keep", "--check", "regressions")
    file = json.loads(kept.read_text())
    kept.write_text(json.dumps({**file, "schedule": ["nobody", *file["schedule"]]}))
    yield "keep --check", told(command, "keep", "--check", "regressions")
    yield "shrink", told(command, "shrink", "canary.log", "--budget", 5)
    yield "explain", told(command, "explain", "canary.log")
    for explanation in (explain_free(), explain(lambda stage: two_tasks(stage, nothing, warn_always))):
        yield "explain", json.loads(json_text(explanation_json(explanation)))


def warn_always(ctx: Context) -> None:
    """A flaw that every order shows."""
    WARN_ON(ctx, "always", "it is so")


def trials(command: Command) -> Printed:
    search = ("--scenario", "rmdir-empty", "--kernel", "v7", "--budget", 2, "--no-log")
    yield "try", told(command, "try", "work-fn-store-after-free", *search)
    yield "bisect", told(command, "bisect", "canary.log", "--budget", 1)


def searches(command: Command) -> Printed:
    search = ("explore", "rmdir-empty", "--kernel", "v7", "--budget", 40, "--no-log")
    yield "explore", told(command, *search)
    yield "explore", told(command, "explore", "canary", "--set", "rounds=1", "--budget", 2, "--no-log")
    yield "explore", told(command, "explore", "--from", "canary.log", "--at", 32, "--budget", 2, "--no-log")
    test = violations_of(lambda stage: two_tasks(stage, nothing, nothing), pairs=2)
    site = ("f", "op")
    test.violations.append(Violation(STATE, 0, 1, "one", "other", "what", site, site))
    yield "selftest", json.loads(json_text(selftest_json(SelfTestResult(test, twice=2))))


def files(command: Command) -> Printed:
    for name in ("slabinfo", "slabinfo_full", "memcg_slabinfo", "cgroup.stat", "cgroups", "slab", "kpagecgroup"):
        yield "slabinfo", told(command, "slabinfo", "s.log", "--file", name, "--at", 2000)
    _, fields = msgpack.unpackb((payloads := read_payloads(Path("s.log")))[0])
    write_payloads(Path("other.log"), [pack(["header", {**fields, "kernel": "v1"}]), *payloads[1:]])
    yield "slabinfo without a file", told(command, "slabinfo", "other.log")


def logs(command: Command) -> Printed:
    headings = {"step": "a step", "value": "a value", "phase": "a phase", "moved": "a move", "finding": "a finding"}
    command("run", "rmdir-under-load", "--kernel", "original", "--set", "objects=30", "--log", "load.log")
    for log in ("canary.log", "load.log"):
        for line in command("log", log, "--json").out.splitlines():
            event = json.loads(line)
            yield f"log: {headings[event['event']]}", event


def lists(command: Command) -> Printed:
    for entry in (*told(command, "list"), *told(command, "list", "operations", "css")):
        yield f"list: {entry['kind']}", entry


def matches(command: Command) -> Printed:
    yield "match", told(command, "match", TRACES / "ftrace-linux-5.3.1-create.txt", "--kernel", "5.3")
    parted = told(command, "match", TRACES / "ftrace-linux-5.2.1-rmdir-held.txt", "--kernel", "5.3", "--budget", 4)
    assert parted["outcome"] == "no-match"
    yield "match", parted
    lines = (TRACES / "ftrace-linux-5.3.1-create.txt").read_text().splitlines(keepends=True)
    Path("lost.txt").write_text("".join([*lines[:20], "CPU:0 [LOST 3 EVENTS]\n", *lines[20:]]))
    yield "match", told(command, "match", "lost.txt", "--kernel", "5.3", "--budget", 1)


def stores(command: Command) -> Printed:
    campaign = ("stress", "canary", "--store", "stress", "--workers", 1, "--budget", 12)
    yield "stress", told(command, *campaign)
    folder = built_in(Path.cwd()).folder
    for question in QUESTIONS:
        yield from ((f"query: {question}", row) for row in told(command, "query", folder, question))
    yield from (("bugs", bug) for bug in told(command, "bugs", folder, 1, "--note", "so"))


def hosts(_command: Command) -> Printed:
    """A simulation takes minutes, so the object is made from invented figures."""
    walks = Walks(1, 2.5, 3.5, (Waits("memcg_create_kmem_cache", 1, 2, 3),))
    day = Day(0, dying=1, child_caches=2, zombie_caches=3, memory=4, cgroups=5, steps=6, seconds=0.5, walks=walks)
    fleet = Fleet([HostRun(HostJob.of(kernel, 0, {}), [day]) for kernel in ("original", "5.3")], days=0)
    yield "growth", json.loads(json_text(growth_json(Comparison.of(fleet, "5.3"))))
    yield "growth --walk", json.loads(json_text(walk_json(fleet)))


def test_every_object_is_on_the_page_and_every_object_of_the_page_is_printed(slabrace: Command) -> None:
    page = Page.read()
    for source in (runs, findings, trials, searches, files, logs, lists, matches, stores, hosts):
        for heading, value in source(slabrace):
            page.check(value, heading)
            assert value["schema"] == SCHEMA
            assert next(iter(value)) == "schema"
    unseen = page.tables.keys() - page.seen.keys()

    assert not unseen, "the page names what was not printed here"
