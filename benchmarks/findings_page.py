"""docs/findings.md as a table of data: what was judged, and what the campaigns reported.

The page has two tables. In the one under "The judgements" people say which signatures are true of which kernels; the
one between the markers is made by `python -m benchmarks findings` of the results of its campaigns.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs

from actors.versions.profiles import PROFILES, profile_range
from benchmarks.pages import DOCS, markdown_table, put_between_markers
from protocol.atomic import write_file
from protocol.errors import UsageError
from scenarios import SCENARIOS

RESULTS = str(DOCS / "findings.json")
PAGE = str(DOCS / "findings.md")
ALL_BUT = "all but "
ROW = re.compile(
    r"^\| `(?P<pattern>[^`]+)` \| (?P<kernels>[^|]+) \| (?P<stages>[^|]+) "
    r"\| (?P<verdict>[^|]+) \| (?P<section>[^|]+) \|$"
)


@attrs.frozen(kw_only=True)
class Cell:
    """One campaign: a scenario on a kernel; `findings` is by signature, with the count and the first schedule.

    `stopped` is why it ended (`exhausted`, `budget`), `cut_off` how many schedules an exact search began in vain, and
    `seconds` what it took of a processor.
    """

    scenario: str
    kernel: str
    settings: dict[str, str] = attrs.field(eq=False)
    strategy: str
    budget: int
    schedules: int = 0
    steps: int = 0
    findings: dict[str, Any] = attrs.field(factory=dict, eq=False)
    unreached: list[str] = attrs.field(factory=list, eq=False)
    stopped: str = ""
    classes: int = 0
    cut_off: int = 0
    seconds: float = 0.0

    @property
    def key(self) -> str:
        """What makes it this campaign and no other."""
        settings = " ".join(f"{name}={value}" for name, value in sorted(self.settings.items()))
        return f"{self.kernel} {self.strategy} {self.budget} {self.scenario} {settings}"

    @property
    def line(self) -> str:
        """The campaign and what it reported, in one line."""
        found = ", ".join(f"{signature} x{found['count']}" for signature, found in self.findings.items())
        return f"{self.key}: {found or 'nothing'}"


def read_results(path: Path) -> dict[str, Cell]:
    """The campaigns that have been run, by key."""
    if not path.exists():
        return {}
    cells = [Cell(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    return {cell.key: cell for cell in cells}


def write_results(path: Path, results: Mapping[str, Cell]) -> None:
    """Save them, one line each, so that a difference can be read."""
    lines = ",\n".join(json.dumps(attrs.asdict(cell)) for cell in results.values())
    write_file(path, f"[\n{lines}\n]\n", overwrite=True)


# -- judgements -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Judgement:
    """One row of the page: what matches *pattern* is judged so on these kernels, on these stages.

    A name alone is no judgement: another flaw may show it elsewhere.
    """

    pattern: str
    kernels: frozenset[str]
    stages: frozenset[str]
    verdict: str
    section: str

    def covers(self, kernel: str, stage: str, signature: str) -> bool:
        """Whether it is this that was reported."""
        return kernel in self.kernels and stage in self.stages and fnmatch.fnmatchcase(signature, self.pattern)


def read_judgements(page: str) -> list[Judgement]:
    """The rows that people wrote."""
    found = []
    for line in page.splitlines():
        match = ROW.match(line)
        if match is not None:
            kernels = [kernel for part in match["kernels"].split(",") for kernel in kernels_of(part.strip())]
            stages = frozenset(stages_of(match["stages"]))
            found.append(
                Judgement(
                    match["pattern"], frozenset(kernels), stages, match["verdict"].strip(), match["section"].strip()
                )
            )
    return found


def stages_of(text: str) -> Iterable[str]:
    """`canary, nested`, or `all but canary, nested`."""
    names = [name.strip() for name in text.removeprefix(ALL_BUT).split(",")]
    known = [scenario.name for scenario in SCENARIOS]
    for name in names:
        if name not in known:
            msg = f"{PAGE}: there is no stage {name}"
            raise UsageError(msg)
    return [name for name in known if name not in names] if text.startswith(ALL_BUT) else names


def kernels_of(text: str) -> Iterable[str]:
    """`v2..v7`, `all` or one kernel."""
    return PROFILES if text == "all" else profile_range(text)


def unjudged(judgements: Iterable[Judgement], kernel: str, stage: str, signatures: Iterable[str]) -> list[str]:
    """Those *signatures* that no row covers on that stage of that kernel."""
    rows = list(judgements)
    return [signature for signature in signatures if not any(row.covers(kernel, stage, signature) for row in rows)]


# -- the table --------------------------------------------------------------------------------------------------------


def update_page(path: Path, results: Mapping[str, Cell]) -> None:
    """Put the tables between the markers."""
    put_between_markers(path, "findings", table(results.values()))
    put_between_markers(path, "exhausted", table_of_exact_searches(results.values()))


def table_of_exact_searches(cells: Iterable[Cell]) -> list[str]:
    """One row a stage and kernel that dpor has searched: how much there was, and what it found."""
    header = ["stage", "kernel", "allocator", "ended", "classes", "schedules", "begun in vain", "seconds", "findings"]
    rows = []
    for cell in cells:
        if cell.strategy == "dpor":
            figures = (f"{count:,}" for count in (cell.classes, cell.schedules, cell.cut_off))
            found = ", ".join(f"`{signature}`" for signature in cell.findings) or "none"
            stage = [cell.scenario, cell.kernel, cell.settings["allocator"], cell.stopped]
            rows.append([*stage, *figures, f"{cell.seconds:.0f}", found])
    return markdown_table(header, rows)


def table(cells: Iterable[Cell]) -> list[str]:
    """One row a signature, one column a kernel: in how many schedules; and how many there were."""
    cells = list(cells)
    schedules: Counter[str] = Counter()
    counts: dict[str, Counter[str]] = {}
    scenarios: dict[str, set[str]] = {}
    for cell in cells:
        schedules[cell.kernel] += cell.schedules
        for signature, found in cell.findings.items():
            counts.setdefault(signature, Counter())[cell.kernel] += found["count"]
            scenarios.setdefault(signature, set()).add(cell.scenario)
    rows = [["schedules run", *(f"{schedules[kernel]:,}" for kernel in PROFILES), ""]]
    for signature in sorted(counts):
        figures = (str(counts[signature][kernel] or "·") for kernel in PROFILES)
        rows.append([f"`{signature}`", *figures, named(scenarios[signature])])
    return markdown_table(["signature", *PROFILES, "scenarios"], rows)


def named(scenarios: set[str]) -> str:
    """Up to three of them, and how many more."""
    names = sorted(scenarios)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
