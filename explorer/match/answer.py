"""The answer of a match, as an object and as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from explorer.json_out import as_json, finding_json, patches_json
from explorer.report import as_arguments, styled
from protocol.formats.ftrace import FunctionTrace

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from explorer.match.cursor import TracedEvent
    from explorer.match.search import SearchResult
    from explorer.session import Result

SHOWN = 4


@attrs.frozen(kw_only=True)
class Answer:
    """A finished search, and the recorded run of its best schedule. `seconds` is the time of the search."""

    path: Path
    trace: FunctionTrace
    found: SearchResult
    result: Result
    seconds: float

    @property
    def outcome(self) -> str:
        """`match`, `no-match`, or `interrupted` before there was one."""
        if self.found.is_match:
            return "match"
        return "interrupted" if self.found.is_interrupted else "no-match"

    @property
    def exit_code(self) -> int:
        """0 for a match, 1 for none, 130 if interrupted."""
        return {"match": 0, "no-match": 1, "interrupted": 130}[self.outcome]

    def to_json(self) -> dict[str, Any]:
        """The answer as the JSON object of `--json`."""
        best, header = self.found.best, self.result.header
        return {
            "outcome": self.outcome,
            "trace": str(self.path),
            "scenario": header.scenario,
            "kernel": header.kernel,
            "patches": patches_json(header),
            "lines": len(best.subject.events),
            "matched": best.matched,
            "skipped": as_json(best.subject.scope.skipped),
            "lost_events": as_json(self.trace.lost),
            "flows": best.flows,
            "cpus": {str(theirs): ours for theirs, ours in sorted(best.cpus.items())},
            "after": list(best.after),
            "parted": self._parted(),
            "is_proof": self.found.is_proof,
            "schedules": self.found.schedules,
            "steps": self.result.steps,
            "digest": self.result.digest,
            "findings": [finding_json(finding) for finding in self.result.findings],
            "log": str(self.result.log) if self.result.log else None,
            "seconds": round(self.seconds, 3),
        }

    def _parted(self) -> dict[str, Any] | None:
        divergence = self.found.best.divergence
        if divergence is None:
            return None
        return {
            "last": _event_json(divergence.last) if divergence.last else None,
            "trace": [_event_json(event) for event in divergence.trace],
            "model": list(divergence.model),
            "obstacle": divergence.obstacle,
        }

    def show(self, console: Console) -> None:
        """Print the answer as text."""
        best, header = self.found.best, self.result.header
        runs = f"{self.found.schedules} schedule{'s' if self.found.schedules > 1 else ''}"
        console.print(
            styled(
                (str(self.path), "bold"),
                f" on {header.kernel}, {header.scenario}: "
                f"{best.matched} of {len(best.subject.events)} lines matched, {runs}, {self.seconds:.1f} s",
            )
        )
        cpus = {f"CPU {theirs}": f"cpu{ours}" for theirs, ours in sorted(best.cpus.items())}
        pairs = ", ".join(f"{theirs} = {ours}" for theirs, ours in {**cpus, **best.flows}.items())
        console.print(f"  {pairs}" if pairs else "  no flow of the trace is in the model")
        for skipped in best.subject.scope.skipped:
            console.print(f"  skipped: {skipped.function} ({skipped.count}), {skipped.reason}")
        for lost in self.trace.lost[:1]:
            console.print(
                f"  line {lost.line}: events of CPU {lost.cpu} are lost; compared up to there", style="yellow"
            )
        _show_list(console, "the model reports    ", [f"{f.message}, step {f.step}" for f in self.result.findings])
        _show_list(console, "after the last line  ", list(best.after))
        if best.divergence is not None:
            self._show_divergence(console)
        console.print(self._verdict(), *self._paths())

    def _show_divergence(self, console: Console) -> None:
        divergence = self.found.best.divergence
        assert divergence is not None, "only a run that diverged is shown"
        console.print(f"  the last matched line  {divergence.last or 'none'}")
        _show_list(console, "the trace then       ", [str(event) for event in divergence.trace] or ["ends"])
        _show_list(console, "the model then       ", list(divergence.model) or ["is at rest"])
        console.print(f"  in the way             {divergence.obstacle}")

    def _verdict(self) -> Text:
        if self.found.is_match:
            return styled(("match", "green"), f": {self.result.steps} steps of the model do what the trace shows")
        if self.found.is_interrupted:
            return styled(("interrupted", "yellow"), ": this is the best so far")
        if self.found.is_proof:
            return styled(("no match", "red"), ": no schedule of this kernel gets further")
        return styled(("no match", "red"), f" in {self.found.schedules} schedules; --budget for more")

    def _paths(self) -> list[str]:
        log = self.result.log
        return (
            [] if log is None else [f"log: {log}", f"replay: slabrace replay {as_arguments(log, self.result.header)}"]
        )


def _show_list(console: Console, title: str, lines: list[str]) -> None:
    """Print lines behind a title; if there are too many, the first ones and the number of the others."""
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    for line in lines[:SHOWN] + more:
        console.print(f"  {title}  {line}")
        title = " " * len(title)


def _event_json(event: TracedEvent) -> dict[str, Any]:
    return {
        "line": event.line,
        "flow": event.flow.name,
        "cpu": event.cpu,
        "function": event.function,
        "caller": event.caller or None,
    }
