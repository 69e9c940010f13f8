"""The parser of the function tracer's text: valid traces, and the usage errors for other files."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import UsageError
from protocol.formats.ftrace import Interrupted, base_name, parse_ftrace, read_function_list
from tests.match.traces import CAPTURES, HEAD, Capture, entry_lines

each_capture = pytest.mark.parametrize("capture", CAPTURES, ids=str)
same_examples = settings(derandomize=True, deadline=None, database=None, max_examples=200)

LINE = "            task-41    [001] d.h2     1.982819: discard_slab <-deactivate_slab"


def parse(text: str) -> list[object]:
    return list(parse_ftrace(text.encode(), source="t.txt").lines)


def refusal(data: bytes) -> str:
    with pytest.raises(UsageError) as caught:
        parse_ftrace(data, source="t.txt")
    return str(caught.value)


@each_capture
def test_a_capture_is_read_whole(capture: Capture) -> None:
    trace = parse_ftrace(capture.path.read_bytes(), source=str(capture))
    lines = [line for line in capture.text().splitlines() if not line.startswith("#")]

    assert trace.cpus == 2
    assert not trace.lost
    assert len(trace.lines) == len(lines)
    assert [line.line - 1 for line in trace.lines if line.function] == entry_lines(capture.text())
    assert {line.event for line in trace.lines if not line.function} <= {"tracing_mark_write"}


def test_every_column_is_read() -> None:
    (line,) = parse_ftrace((HEAD + LINE).encode(), source="t.txt").lines

    assert (line.line, line.comm, line.pid, line.task, line.cpu) == (3, "task", 41, "task-41", 1)
    assert (line.context, line.irqs_off, line.time) == (Interrupted.HARDIRQ, True, 1_982_819)
    assert (line.function, line.caller) == ("discard_slab", "deactivate_slab")


@pytest.mark.parametrize(
    ("flags", "context"),
    [
        ("....", Interrupted.NOTHING),
        (".N..", Interrupted.NOTHING),
        ("..s.", Interrupted.SOFTIRQ),
        ("d.H1", Interrupted.HARDIRQ),
        ("d.Z1", Interrupted.NMI),
        ("dNs31", Interrupted.SOFTIRQ),
    ],
)
def test_the_third_flag_says_what_interrupts_what(flags: str, context: Interrupted) -> None:
    (line,) = parse_ftrace((HEAD + LINE.replace("d.h2", flags)).encode(), source="t.txt").lines

    assert line.context is context


@pytest.mark.parametrize(
    ("comm", "pid"), [("<idle>", 0), ("<...>", 1234), ("kworker/0:1", 19), ("a b-c", 7), ("rcu_sched-x", 10)]
)
def test_names_of_tasks_may_have_anything_in_them(comm: str, pid: int) -> None:
    (line,) = parse_ftrace((HEAD + LINE.replace("task-41", f"{comm}-{pid}")).encode(), source="t.txt").lines

    assert (line.comm, line.pid) == (comm, pid)


def test_a_thread_group_behind_the_pid_is_passed_over() -> None:
    (line,) = parse_ftrace((HEAD + LINE.replace("task-41", "task-41 (   40)")).encode(), source="t.txt").lines

    assert (line.pid, line.cpu) == (41, 1)


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("memcg_offline_kmem.part.0", "memcg_offline_kmem"),
        ("__free_slab.isra.12.constprop.3", "__free_slab"),
        ("shutdown_cache.cold", "shutdown_cache"),
        ("discard_slab", "discard_slab"),
    ],
)
def test_clones_of_the_compiler_bear_the_name_of_the_function(symbol: str, name: str) -> None:
    assert base_name(symbol) == name


def test_symbols_with_offsets_and_modules_are_read() -> None:
    text = LINE.replace("discard_slab <-deactivate_slab", "f+0x0/0x10 [ext4] <-g.part.0+0x12/0x20 [jbd2]")
    (line,) = parse_ftrace((HEAD + text).encode(), source="t.txt").lines

    assert (line.function, line.caller) == ("f", "g")


def test_marks_and_other_events_are_no_entries() -> None:
    text = "\n".join(
        LINE.replace("discard_slab <-deactivate_slab", what)
        for what in ("tracing_mark_write: rmdir-begin", "sched_switch: prev_comm=a", "tracing_mark_write:")
    )
    lines = parse_ftrace((HEAD + text).encode(), source="t.txt").lines

    assert [(line.event, line.text) for line in lines] == [
        ("tracing_mark_write", "rmdir-begin"),
        ("sched_switch", "prev_comm=a"),
        ("tracing_mark_write", ""),
    ]


@pytest.mark.parametrize(("hole", "count"), [("CPU:1 [LOST 12 EVENTS]", 12), ("CPU:0 [EVENTS DROPPED]", 0)])
def test_lost_events_are_told(hole: str, count: int) -> None:
    trace = parse_ftrace(f"{HEAD}{LINE}\n{hole}\n{LINE}\n".encode(), source="t.txt")

    assert [(lost.line, lost.count) for lost in trace.lost] == [(4, count)]
    assert len(trace.lines) == 2


# -- damaged and foreign files ----------------------------------------------------------------------------------------

COUNTED = "# tracer: function\n#\n# entries-in-buffer/entries-written: {}/{}   #P:2\n#\n" + LINE + "\n"

REFUSED = {
    "empty": (b"", "t.txt:1: the file is empty"),
    "a picture": (b"\x89PNG\r\n\x1a\n\xff\xfe", "t.txt:1: this is not text"),
    "bytes in the middle": (f"{HEAD}{LINE}\n".encode() + b"\xff\xfe\n", "t.txt:4: this is not text"),
    "another tracer": (b"# tracer: function_graph\n#\n 0) 1.2 us | f();\n", "t.txt:1: the tracer was 'function_graph'"),
    "no tracer": (b"# tracer: nop\n#\n", "t.txt:1: the tracer was 'nop'"),
    "trace-cmd report": (b"cpus=2\n task-41 [001] 1.98: function: f <-- g\n", "t.txt:1: expected '# tracer: function'"),
    "a slabrace log": (b"slabrace\x01\x00", "t.txt:1: expected '# tracer: function'"),
    "nothing traced": (b"# tracer: function\n#\n", "t.txt:2: there is no entry"),
    "no flags": (f"{HEAD}task-41 [001] 1.982819: f <-g\n".encode(), "t.txt:3: there are no flags"),
    "foreign flags": (f"{HEAD}{LINE}".replace("d.h2", "d.q2").encode(), "t.txt:3: 'q' is no hardirq/softirq flag"),
    "a torn line": (f"{HEAD}{LINE[:40]}\n".encode(), "t.txt:3: this is no line of the function tracer"),
    "a torn function": (f"{HEAD}{LINE[:-18]}\n".encode(), "t.txt:3: expected FUNCTION <-CALLER"),
    "a torn caller": (f"{HEAD}{LINE[:-15]}\n".encode(), "t.txt:3: expected FUNCTION <-CALLER"),
    "another log": (f"{HEAD}[    1.234567] Linux version 5.3.1\n".encode(), "t.txt:3: this is no line of the function"),
    "overwritten": (COUNTED.format(1, 9).encode(), "t.txt:3: 8 of 9 entries were overwritten"),
    "cut": (COUNTED.format(2, 2).encode(), "t.txt:3: the header counts 2 entries, and the file has 1"),
    "time goes back": (
        f"{HEAD}{LINE}\n{LINE.replace('1.982819', '1.982818')}\n".encode(),
        "t.txt:4: time goes back on CPU 1, from 1.982819 to 1.982818",
    ),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=list(REFUSED))
def test_a_damaged_or_foreign_file_gets_one_clear_line(data: bytes, message: str) -> None:
    told = refusal(data)

    assert told.startswith(message)
    assert "\n" not in told
    assert len(told) > len(message) + 10, "it says what to do"


def test_time_may_go_back_from_one_cpu_to_another() -> None:
    """The clocks of two CPUs differ a little; the kernel merges lines by time, other tools may not."""
    assert len(parse(f"{HEAD}{LINE}\n{LINE.replace('[001]', '[000]').replace('1.982819', '1.982818')}\n")) == 2


@same_examples
@given(st.sampled_from(CAPTURES), st.data())
def test_a_flipped_bit_is_refused_or_changes_one_line(capture: Capture, data: st.DataObject) -> None:
    raw = bytearray(capture.path.read_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    whole = parse_ftrace(capture.path.read_bytes(), source="t.txt")
    told, lines = "", whole.lines
    try:
        lines = parse_ftrace(bytes(raw), source="t.txt").lines
    except UsageError as error:
        told = str(error)

    assert not told or (told.startswith("t.txt:") and "\n" not in told)
    pairs = zip(whole.lines, lines, strict=True)
    assert sum(attrs.evolve(one, line=0) != attrs.evolve(other, line=0) for one, other in pairs) <= 1


@same_examples
@given(st.sampled_from(CAPTURES), st.data())
def test_a_file_that_was_cut_off_is_refused(capture: Capture, data: st.DataObject) -> None:
    raw = capture.path.read_bytes().rstrip()
    length = data.draw(st.integers(0, len(raw) - 1))
    caller_only = b"\n" not in raw[length:] and b"<-" not in raw[length:] and raw[length - 1 : length] != b"-"
    if caller_only:
        return  # only a part of the last caller's name is missing, which cannot be noticed

    assert refusal(raw[:length]).startswith("t.txt:")


# -- set_ftrace_filter ------------------------------------------------------------------------------------------------


def test_a_filter_is_read() -> None:
    text = b"#### all functions enabled ####\ndiscard_slab\n__free_slab.part.0\next4_mkdir [ext4]\n\n"

    assert read_function_list(text, source="f.txt") == ("discard_slab", "__free_slab", "ext4_mkdir")


def test_what_is_no_filter_is_refused() -> None:
    with pytest.raises(UsageError, match=r"f.txt:1: expected a function's name, found '\{\"a\": 1\}'"):
        read_function_list(b'{"a": 1}\n', source="f.txt")
