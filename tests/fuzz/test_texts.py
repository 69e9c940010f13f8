"""Captures of kernel files and traces, with arbitrary changes, are read, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from protocol.errors import UsageError
from protocol.formats.cgroup_files import parse_cgroups, parse_flat_keyed, parse_u64
from protocol.formats.ftrace import parse_ftrace, read_function_list
from protocol.formats.kpagecgroup import unpack_kpagecgroup
from protocol.formats.memcg_slabinfo import parse_memcg_slabinfo
from protocol.formats.slab_directory import parse_directory
from protocol.formats.slabinfo import parse_kmem_slabinfo, parse_slabinfo
from protocol.formats.slabinfo_full import HEADER, parse_slabinfo_full
from protocol.formats.textfile import MOST_BYTES
from scenarios.registry import SLABINFO, default_value
from tests.fuzz.bench import Bench, Memory, check_ending
from tests.fuzz.conftest import attempt
from tests.fuzz.texts import changed
from tests.helpers import TINY_CAPTURE

DATA = Path(__file__).parents[1] / "data"
FULL = f"{HEADER}dentry - - active 1 21 1 1 0\ndentry 7:a\\040b - draining 1 21 1 1 99\n"
KEYED = "anon 4096\nslab_reclaimable 12\n"


CANARY = ("run", "canary", "--no-log", "--json", "--set", "rounds=1", "--set")
"""The shortest run on a machine with the caches of a file."""


def data(name: str) -> bytes:
    return (DATA / name).read_bytes()


def of_text(parse: Callable[..., Any]) -> Callable[[bytes], Any]:
    """Turn a parser of text into a parser of bytes."""
    return lambda read: parse(read.decode("utf-8", errors="replace"), source="x")


def of_bytes(parse: Callable[..., Any]) -> Callable[[bytes], Any]:
    return lambda read: parse(read, source="x")


PARSERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "slabinfo": (of_text(parse_slabinfo), default_value(SLABINFO).encode()),
    "kmem.slabinfo": (of_text(parse_kmem_slabinfo), TINY_CAPTURE.encode()),
    "slabinfo_full": (of_text(parse_slabinfo_full), FULL.encode()),
    "memcg_slabinfo": (of_text(parse_memcg_slabinfo), data("memcg_slabinfo-longman-2019-06-19.txt")),
    "slab": (of_text(parse_directory), data("sys-kernel-slab-linux-6.18.txt")),
    "cgroups": (of_text(parse_cgroups), data("proc-cgroups-linux-6.18.txt")),
    "cgroup.stat": (of_text(parse_flat_keyed), data("cgroup.stat-linux-6.18.txt") + KEYED.encode()),
    "usage": (of_text(parse_u64), data("memory.kmem.usage_in_bytes-linux-6.18.txt")),
    "kpagecgroup": (of_bytes(unpack_kpagecgroup), data("kpagecgroup-linux-6.18.bin")[:800]),
    "ftrace": (of_bytes(parse_ftrace), data("ftrace-linux-5.3.1-rmdir-idle.txt")),
    "filter": (of_bytes(read_function_list), b"# all\nkmem_cache_free [slab]\nf.part.0\n"),
}
"""Every parser of a kernel's output, with an example."""


@pytest.mark.parametrize("name", PARSERS)
def test_an_example_is_read(name: str) -> None:
    """Without this test the others could pass vacuously."""
    parse, example = PARSERS[name]

    assert parse(example)


@pytest.mark.parametrize("inputs", [10, pytest.param(700, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_or_refuses_in_one_line(name: str, inputs: int) -> None:
    parse, example = PARSERS[name]

    def check_one(read: bytes) -> None:
        said = "x"
        try:
            parse(read)
        except UsageError as error:
            said = str(error)
        assert said.isprintable(), repr(said)
        assert said.startswith("x"), "it says where"
        assert len(said) < 600, "it shows a part of what is wrong"

    attempt(inputs, check_one, changed(example) | st.binary(max_size=200))


@pytest.mark.parametrize("inputs", [25, pytest.param(1_200, marks=pytest.mark.slow)])
def test_run_boots_a_capture_or_refuses_it(inputs: int, bench: Bench) -> None:
    def check_one(capture: bytes) -> None:
        bench.put("capture", capture)
        check_ending(bench.run(*CANARY, "slabinfo=capture"))

    attempt(inputs, check_one, changed(TINY_CAPTURE.encode()))


@pytest.mark.parametrize("inputs", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_match_compares_a_trace_or_refuses_it(inputs: int, bench: Bench) -> None:
    """The first lines of a trace are enough: the time of a search grows with the trace."""
    lines = data("ftrace-linux-5.3.1-rmdir-idle.txt").split(b"\n")
    short = b"\n".join([*lines[:2], *lines[3:20], b""])  # the third counts the entries

    def check_one(trace: bytes) -> None:
        bench.put("trace", trace)
        check_ending(bench.run("match", "trace", "--kernel", "5.3", "--scenario", "traced-rmdir-idle", "--budget", "1"))

    attempt(inputs, check_one, changed(short))


ROW = "{}-{} 0 0 192 21 1 : tunables 0 0 0 : slabdata 0 0 0\n"
LINE = "            task-41    [001] ....     1.{:06}: discard_slab <-deactivate_slab\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "row"), [(TINY_CAPTURE, ROW), ("# tracer: function\n", LINE)], ids=["slabinfo", "ftrace"]
)
@pytest.mark.parametrize("size", [MOST_BYTES - 100, MOST_BYTES + 100], ids=["just read", "too large"])
def test_the_largest_file_takes_little_memory(head: str, row: str, size: int, bench: Bench) -> None:
    many = size // len(row.format(0, 0))
    text = head + "".join(row.format(number, number) for number in range(many))
    bench.put("large", text[:size].encode())
    del text
    line = ["match", "large", "--kernel", "5.3", "--budget", "1"] if "tracer" in head else [*CANARY, "slabinfo=large"]
    memory = Memory()
    ending = bench.run(*line)

    check_ending(ending)
    memory.check()


@pytest.mark.parametrize("line", [["match", "/dev/zero", "--kernel", "5.3"], [*CANARY, "slabinfo=/dev/zero"]])
def test_a_file_without_end_is_refused(line: list[str], bench: Bench) -> None:
    memory = Memory()
    ending = bench.run(*line)

    memory.check()
    assert ending.code == 2
    assert ending.err == "slabrace: /dev/zero: it has more than 4 MiB; is this the right file?\n"
