"""The results of a benchmark, as values: rates, ratios, and facts about the machine and the method."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any, Literal

import attrs

PEERS = ("trio", "simpy", "attrs", "msgpack")


@attrs.frozen
class Row:
    """One measured figure; `unit` is what `value` counts."""

    label: str
    value: float
    unit: str


@attrs.frozen
class Ratio:
    """The ratio of two figures of the same run. `goal` is its target; None if it has none."""

    name: str
    value: float
    sense: Literal["at least", "at most"] = "at least"
    goal: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the goal is reached; a ratio without a goal always is."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.sense == "at least" else self.value <= self.goal


@attrs.frozen
class Machine:
    """The machine of a measurement; figures compare only with others of the same machine."""

    python: str
    system: str
    cores: int
    packages: dict[str, str]

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine; `cores` are the ones that this process may use."""
        return cls(
            f"{platform.python_implementation()} {platform.python_version()}",
            f"{platform.system()} {platform.machine()}",
            len(os.sched_getaffinity(0)),
            {name: metadata.version(name) for name in PEERS},
        )


@attrs.frozen(kw_only=True)
class Report:
    """The outcome of one benchmark.

    `failures` are claims that do not hold, whatever the ratios. `notes` explain the method and the limits of the
    figures.
    """

    name: str
    rows: tuple[Row, ...]
    ratios: tuple[Ratio, ...]
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    machine: Machine = attrs.field(factory=Machine.here)

    @property
    def is_met(self) -> bool:
        """Whether every goal is reached, and every claim holds."""
        return not self.failures and all(ratio.is_met for ratio in self.ratios)


def figure(value: float) -> str:
    """A figure as text: whole from a thousand on, otherwise with three digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def machine_line(machine: Machine) -> str:
    """The machine in one line."""
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return f"{machine.python} on {machine.system}, {machine.cores} cores; {packages}"


def to_json(reports: list[Report]) -> dict[str, Any]:
    """The one JSON object of `--json`: each report's fields, and `met` for ratios, reports and the whole."""
    return {
        "met": all(report.is_met for report in reports),
        "benchmarks": [
            {
                **attrs.asdict(report),
                "met": report.is_met,
                "ratios": [{**attrs.asdict(ratio), "met": ratio.is_met} for ratio in report.ratios],
            }
            for report in reports
        ],
    }
