"""One host of `slabrace growth` in a process of its own, metered.

`python -m benchmarks.hosts KERNEL DAYS RESTARTS UNIT` prints one JSON list. For each day it has the number of cgroups
so far, their CPU time in seconds, their steps, and the peak of resident memory (KiB).
"""

from __future__ import annotations

import json
import sys

from benchmarks.generations import peak_resident
from explorer.growth.host import Day, HostJob, simulate


def meter_host(kernel: str, days: int, restarts: int, unit: int) -> list[dict[str, float]]:
    """Simulate host 0; read the meters on each day."""
    readings: list[dict[str, float]] = []

    def read(day: Day) -> None:
        meters = {"cgroups": day.cgroups, "seconds": day.seconds, "steps": day.steps, "peak": peak_resident()}
        readings.append(dict(meters))

    findings = simulate(HostJob.of(kernel, 0, {"days": str(days), "restarts": str(restarts), "unit": str(unit)}), read)
    assert not findings, f"the run found {', '.join(finding.signature for finding in findings)}"
    return readings


def main() -> None:
    """Run with the given arguments, and print the readings."""
    kernel, *numbers = sys.argv[1:5]
    json.dump(meter_host(kernel, *map(int, numbers)), sys.stdout)


if __name__ == "__main__":
    main()
