"""An untrusted file that names a program in every possible field: no command opens or runs the program."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import msgpack
import pytest

from tests.fuzz.audited import MARK, PAYLOAD
from tests.fuzz.bench import Bench
from tests.fuzz.kept import KEPT, Fields, dump
from tests.fuzz.logs import Good, join
from tests.fuzz.msgpacked import pack
from tests.fuzz.test_kept import CHECKED, EXPLORED
from tests.fuzz.test_logs import READERS, line

ROOT = Path(__file__).parents[2]
FIX = "work-fn-store-after-free"

TEXT = f"""\
from pathlib import Path
from actors.api import kernel_fn, unpatched

Path("{MARK}").touch()

@kernel_fn("kmemcg_workfn", "mm/slab_common.c")
async def kmemcg_workfn(ctx, work):
    await unpatched(ctx, kmemcg_workfn, work)
"""
"""A patch that changes nothing, but leaves a file when it is imported."""

HASH = hashlib.sha256(TEXT.encode()).hexdigest()

PATCHES: dict[str, dict[str, str]] = {
    "a name": {"name": PAYLOAD, "path": "", "sha256": ""},
    "a path": {"name": "x", "path": PAYLOAD, "sha256": HASH},
    "a fix's name": {"name": FIX, "path": PAYLOAD, "sha256": HASH},
    "a text": {"name": "x.py", "path": "x.py", "sha256": HASH, "text": TEXT},
    "a text of another name": {"name": FIX, "path": "", "sha256": HASH, "text": TEXT},
}
"""The entries that a log may have for a patch."""


@attrs.frozen
class Case:
    """A command, its file, and whether the command has to refuse it."""

    where: str
    command: tuple[str, ...]
    is_refused: bool = False


def headers(good: Good, fields: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Headers with the payload in each field except the patches."""
    for name in ("scenario", "kernel", "strategy", "driver", "slabrace", "check", "shows"):
        yield name, {name: PAYLOAD}
    for knob in fields["parameters"]:
        yield f"knob {knob} of {good.name}", {"parameters": {**fields["parameters"], knob: PAYLOAD}}
    yield "without", {"without": [PAYLOAD]}
    yield "faults", {"faults": {PAYLOAD: 0.5}}


def put_logs(bench: Bench, good: Good, wanted: str) -> Iterator[Case]:
    """Logs with the payload in them, and every command that reads logs."""
    tag, fields = msgpack.unpackb(good.frames[0])
    changes: list[tuple[str, dict[str, Any]]] = [(where, {"patches": [patch]}) for where, patch in PATCHES.items()]
    if wanted == "all":
        changes += headers(good, fields)
        for where, patch in PATCHES.items():
            changes += [(f"oracle: {where}", {"oracles": [patch]}), (f"scenario: {where}", {"scenario_code": patch})]
    for number, (where, changed) in enumerate(changes):
        name = f"{number}.log"
        bench.put(name, join(good, [pack([tag, {**fields, **changed}]), *good.frames[1:]]))
        for reader in READERS:
            yield Case(f"{where} in a log", tuple(line(reader, name)), "patches" in changed and reader[0] != "log")


def put_kept(bench: Bench, fields: Fields, wanted: str) -> Iterator[Case]:
    """Regression files with the payload. A search applies only its own patches, so it need not refuse anything."""
    from_there = {where: {**patch, "path": patch["path"] and f"../{patch['path']}"} for where, patch in PATCHES.items()}
    changes: list[tuple[str, Fields]] = [(where, {"patches": [patch]}) for where, patch in from_there.items()]
    if wanted == "all":
        texts = ("scenario", "kernel", "signature", "check", "slabrace")
        changes += [(name, {name: PAYLOAD}) for name in texts]
        changes += [(f"knob {knob}", {"knobs": {knob: PAYLOAD}}) for knob in ("rounds", "slabinfo", "allocator")]
        changes += [("without", {"without": [PAYLOAD]}), ("schedule", {"schedule": [PAYLOAD]})]
        for where, code in from_there.items():
            changes += [(f"oracle: {where}", {"oracles": [code]}), (f"scenario: {where}", {"scenario_code": code})]
    for number, (where, changed) in enumerate(changes):
        folder = f"{number}.kept"
        bench.put(f"{folder}/one.json", dump({**fields, **changed}))
        for reader in (CHECKED, EXPLORED):
            command = tuple(folder if word == "kept" else word for word in reader)
            yield Case(f"{where} in a regression file", command, reader is CHECKED and "patches" in changed)


def run_audited(bench: Bench, commands: list[tuple[str, ...]]) -> list[dict[str, Any]]:
    """The ending of each command, and the events in which the payload was opened, compiled or run."""
    script = [sys.executable, "-m", "tests.fuzz.audited", str(bench.folder)]
    done = subprocess.run(script, input=json.dumps(commands), capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S603 -- a command of the tests
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    assert len(answers) == len(commands)
    return answers


@pytest.fixture
def good(goods: tuple[Good, ...]) -> Good:
    """The short log of the canary."""
    return goods[0]


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """A folder with the payload in it."""
    bench.put(PAYLOAD, TEXT.encode())
    return bench


@pytest.mark.parametrize("wanted", ["patches", pytest.param("all", marks=pytest.mark.slow)])
def test_nobody_opens_or_runs_what_a_file_names(bench: Bench, good: Good, fields: Fields, wanted: str) -> None:
    cases = [*put_logs(bench, good, wanted), *put_kept(bench, fields, wanted)]
    answers = run_audited(bench, [case.command for case in cases])

    wrong = [
        f"{case.where}: {' '.join(case.command)}: exit {answer['code']}, {answer['seen']}: {answer['err'][-200:]}"
        for case, answer in zip(cases, answers, strict=True)
        if answer["seen"] or answer["code"] not in ({2} if case.is_refused else {0, 1, 2, 4})
    ]
    assert not wrong, "\n".join(wrong)


def test_the_hook_sees_what_runs(bench: Bench, good: Good) -> None:
    """Without this test the others could pass vacuously."""
    bench.put("x.log", good.data)
    (answer,) = run_audited(bench, [("replay", "x.log", "--patch", PAYLOAD)])

    assert answer["code"] == 1, "the patch changes nothing"
    assert {"open", "compile", "exec", MARK} <= set(answer["seen"])


def check_trust(refused: dict[str, Any], trusted: dict[str, Any]) -> None:
    """Without --trust one line names the code that would run, and the option to type."""
    assert (refused["code"], refused["seen"]) == (2, [])
    assert refused["err"].count("\n") == 1
    assert PAYLOAD in refused["err"], "what it would run"
    assert "--trust" in refused["err"], "and what to type"
    assert MARK in trusted["seen"]


def test_the_text_that_a_log_carries_is_run_if_it_is_trusted(bench: Bench, good: Good) -> None:
    """The present file at the path in the log is not used."""
    patch = {"name": PAYLOAD, "path": PAYLOAD, "sha256": HASH, "text": TEXT}
    tag, header = msgpack.unpackb(good.frames[0])
    bench.put("x.log", join(good, [pack([tag, {**header, "patches": [patch]}]), *good.frames[1:]]))
    bench.put(PAYLOAD, b"raise SystemExit('this is another text')")
    refused, trusted = run_audited(bench, [("replay", "x.log"), ("replay", "x.log", "--trust")])

    check_trust(refused, trusted)
    assert trusted["code"] == 1, "the finding is there"
    assert "open" not in trusted["seen"]


def test_the_file_that_a_regression_file_names_is_run_if_it_is_trusted(bench: Bench, fields: Fields) -> None:
    """The patch file is in the folder of the regression file."""
    bench.put(KEPT, dump({**fields, "patches": [{"name": PAYLOAD, "path": f"../{PAYLOAD}", "sha256": HASH}]}))
    refused, trusted = run_audited(bench, [CHECKED, (*CHECKED, "--trust")])

    check_trust(refused, trusted)
    assert trusted["code"] == 0, "the finding is there, as it is expected to be"
