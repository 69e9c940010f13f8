"""The text of ftrace's function tracer: /sys/kernel/tracing/trace. kernel/trace/trace.c, trace_output.c @5.3.

    # tracer: function
    #
    # entries-in-buffer/entries-written: 19/19   #P:2
    #                              _-----=> irqs-off
    #           TASK-PID   CPU#  ||||    TIMESTAMP  FUNCTION
                 task-41    [001] ....     1.982819: mem_cgroup_css_alloc <-css_create
              <idle>-0     [001] ..s.    14.776949: file_free_rcu <-rcu_do_batch
                 task-49    [001] ....    14.737210: tracing_mark_write: rmdir-begin
    CPU:1 [LOST 12 EVENTS]

A line gives the task, its CPU, the context (the flags), the time, and the function entered with its caller. Texts
written to trace_marker stand in between. Later kernels have a fifth flag and, on request, a thread group after the PID.
Timestamps are in seconds; on one CPU they never decrease. Lines of different CPUs are merged by timestamp, so two lines
of two CPUs with the same timestamp may have happened in either order.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import NoReturn

import attrs

from protocol.errors import UsageError
from protocol.formats.columns import MAX_DIGITS, printable

HEADLINE = re.compile(r"# tracer: (\S+)", re.ASCII)
ENTRIES = re.compile(r"# entries-in-buffer/entries-written: (\d+)/(\d+)\s+#P:(\d+)", re.ASCII)
LOST = re.compile(r"CPU:(\d+) \[(?:LOST (\d+) EVENTS|EVENTS DROPPED)\]", re.ASCII)
EVENT = re.compile(
    r"\s*(?P<comm>\S.{0,15}?)-(?P<pid>\d+)\s+(?:\(\s*[-\d]+\)\s+)?\[(?P<cpu>\d{3,})\]"
    r"\s+(?P<flags>[.\w#]{4,5})\s+(?P<seconds>\d+)\.(?P<micros>\d{6}): (?P<what>.*)",
    re.ASCII,
)
FLAGLESS = re.compile(r"\s*\S.{0,15}?-\d+\s+(?:\(\s*[-\d]+\)\s+)?\[\d{3,}\]\s+\d+\.\d+: ", re.ASCII)
ENTRY = re.compile(
    r"(?P<function>[\w.]+)(?:\+0x\S+)?(?: \[\w+\])? <-(?P<caller>[\w.]+)(?:\+0x\S+)?(?: \[\w+\])?", re.ASCII
)
OTHER = re.compile(r"(?P<event>[\w.]+): ?(?P<text>.*)", re.ASCII)
CLONE = re.compile(r"\.(?:part|isra|constprop|cold)(?:\.\d+)?", re.ASCII)
SHOWN = 60


class Interrupted(enum.Enum):
    """The context that interrupts the task on the CPU, by the third flag."""

    NOTHING = "."
    SOFTIRQ = "s"
    HARDIRQ = "h"
    NMI = "Z"


_CONTEXTS = {
    ".": Interrupted.NOTHING,
    "s": Interrupted.SOFTIRQ,
    "h": Interrupted.HARDIRQ,
    "H": Interrupted.HARDIRQ,  # within a softirq
    "z": Interrupted.NMI,
    "Z": Interrupted.NMI,
}


@attrs.frozen
class TraceLine:
    """One entry of the trace. `time` is in microseconds; `context` is the context on top of the task `comm`-`pid`.

    `function` is the function entered and `caller` its caller, both without the suffixes that the compiler gives to
    clones. Both are empty for an entry of another kind: `event` is then tracing_mark_write or the name of a trace
    event, and `text` the rest of the line.
    """

    line: int
    comm: str
    pid: int
    cpu: int
    context: Interrupted
    irqs_off: bool
    time: int
    function: str = ""
    caller: str = ""
    event: str = ""
    text: str = ""

    @property
    def task(self) -> str:
        """The task's name in the trace."""
        return f"{self.comm}-{self.pid}"


@attrs.frozen
class LostEvents:
    """A gap: the tracer lost events of one CPU before this line; `count` is 0 if their number is not given."""

    line: int
    cpu: int
    count: int


@attrs.frozen
class FunctionTrace:
    """A parsed trace. `cpus` is the machine's number of CPUs (0: not in the header)."""

    source: str
    cpus: int
    lines: tuple[TraceLine, ...]
    lost: tuple[LostEvents, ...]


def parse_ftrace(data: bytes, *, source: str) -> FunctionTrace:
    """Parse the function tracer's text.

    UsageError in one line, `source:line: what, what to do`, if it is another text.
    """
    try:
        rows = [row.rstrip("\r") for row in data.decode("utf-8").removesuffix("\n").split("\n")]
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        _fail(source, line, "this is not text; give the text of tracing/trace, not trace.dat or trace_pipe_raw")
    _check_headline(rows, source)
    return _Reader(source).read(rows)


def _check_headline(rows: list[str], source: str) -> None:
    """The first line names the tracer."""
    found = HEADLINE.fullmatch(rows[0].strip())
    if found is None:
        what = f"expected '# tracer: function', found {rows[0][:SHOWN]!r}" if any(rows) else "the file is empty"
        _fail(source, 1, f"{what}; give the text of tracing/trace as the kernel wrote it")
    if found[1] != "function":
        _fail(source, 1, f"the tracer was {found[1]!r}; take the trace with: echo function > current_tracer")


@attrs.define
class _Reader:
    """The state of the parser."""

    source: str
    cpus: int = 0
    claim: tuple[int, int] | None = None
    lines: list[TraceLine] = attrs.field(factory=list)
    lost: list[LostEvents] = attrs.field(factory=list)
    last: dict[int, int] = attrs.field(factory=dict)

    def read(self, rows: list[str]) -> FunctionTrace:
        """Read all rows; their number must agree with the header."""
        for number, row in enumerate(rows, start=1):
            if row.startswith("#"):
                self._read_comment(number, row)
            elif row.strip():
                self._read_row(number, row)
        if self.claim is not None and self.claim[1] != len(self.lines):
            line, claimed = self.claim
            text = f"the header counts {claimed} entries, and the file has {len(self.lines)}: it was cut or edited"
            _fail(self.source, line, f"{text}; take it again, or correct the count if that was on purpose")
        if not self.lines:
            _fail(self.source, len(rows), "there is no entry; was the tracer on, and does set_ftrace_filter fit?")
        return FunctionTrace(self.source, self.cpus, tuple(self.lines), tuple(self.lost))

    def _read_comment(self, number: int, row: str) -> None:
        found = ENTRIES.match(row)
        if found is None:
            return
        kept, written, self.cpus = (self._number(number, text) for text in found.groups())
        if kept < written:
            text = f"{written - kept} of {written} entries were overwritten, and the beginning with them"
            _fail(self.source, number, f"{text}; take it again with a larger buffer_size_kb")
        self.claim = (number, kept)

    def _read_row(self, number: int, row: str) -> None:
        lost = LOST.match(row)
        if lost is not None:
            self.lost.append(LostEvents(number, self._number(number, lost[1]), self._number(number, lost[2] or "0")))
            return
        found = EVENT.fullmatch(row)
        if found is None:
            self._reject(number, row)
        line = self._line(number, found)
        before = self.last.get(line.cpu, 0)
        if line.time < before:
            text = f"time goes back on CPU {line.cpu}, from {_seconds(before)} to {_seconds(line.time)}"
            _fail(self.source, number, f"{text}; was the file edited, or put together from several?")
        self.last[line.cpu] = line.time
        self.lines.append(line)

    def _line(self, number: int, found: re.Match[str]) -> TraceLine:
        context = _CONTEXTS.get(found["flags"][2])
        if context is None:
            text = f"{found['flags'][2]!r} is no hardirq/softirq flag in {found['flags']!r}"
            _fail(self.source, number, f"{text}; take the trace with: echo irq-info > trace_options")
        return TraceLine(
            line=number,
            comm=printable(found["comm"]),  # any process may call itself anything
            pid=self._number(number, found["pid"]),
            cpu=self._number(number, found["cpu"]),
            context=context,
            irqs_off=found["flags"][0] in "dD",
            time=self._number(number, found["seconds"]) * 1_000_000 + int(found["micros"]),
            **self._what(number, found["what"]),
        )

    def _what(self, number: int, what: str) -> dict[str, str]:
        """A function entry, or another event in the same buffer."""
        entry = ENTRY.fullmatch(what.strip())
        if entry is not None:
            return {"function": base_name(entry["function"]), "caller": base_name(entry["caller"])}
        other = OTHER.fullmatch(what)
        if other is None or " <-" in what:
            _fail(self.source, number, f"expected FUNCTION <-CALLER, found {what[:SHOWN]!r}; is the line whole?")
        return {"event": other["event"], "text": other["text"].strip()}

    def _number(self, number: int, text: str) -> int:
        """A number of line *number*; the kernel prints none above 64 bits."""
        if len(text) > MAX_DIGITS:
            _fail(self.source, number, f"there is no such number as {text[:MAX_DIGITS]}...; was the file edited?")
        return int(text)

    def _reject(self, number: int, row: str) -> NoReturn:
        if FLAGLESS.match(row):
            _fail(self.source, number, "there are no flags; take the trace with: echo irq-info > trace_options")
        text = f"this is no line of the function tracer: {row.strip()[:SHOWN]!r}"
        _fail(self.source, number, f"{text}; was the file cut or edited?")


def base_name(symbol: str) -> str:
    """The C name of a function, without the suffixes of compiler clones: f.part.0, f.isra.3.constprop.1."""
    return CLONE.sub("", symbol)


def read_function_list(data: bytes, *, source: str) -> tuple[str, ...]:
    """The functions that set_ftrace_filter lists, one a line; UsageError if this is not such a list."""
    return tuple(_function_names(data, source))


def _function_names(data: bytes, source: str) -> Iterator[str]:
    for number, row in enumerate(data.decode("utf-8", errors="replace").splitlines(), start=1):
        name = row.partition(" ")[0].strip()
        if not name or name.startswith("#"):
            continue
        if not re.fullmatch(r"[\w.]+", name):
            _fail(source, number, f"expected a function's name, found {row[:SHOWN]!r}; give set_ftrace_filter's text")
        yield base_name(name)


def _seconds(micros: int) -> str:
    return f"{micros // 1_000_000}.{micros % 1_000_000:06}"


def _fail(source: str, line: int, text: str) -> NoReturn:
    msg = f"{source}:{line}: {text}"
    raise UsageError(msg)
