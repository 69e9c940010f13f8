"""`mutants`: kernels with one planted error each, and the number that a search without knowledge of them finds.

Each file of benchmarks/planted is a patch over one profile. The search goes through all scenarios with the same budget,
the unpatched kernel first. A finding in a mutant that the unpatched kernel does not show on the same stage is due to
the planted error. A mutant that no scenario shows has escaped: an oracle or a stage is missing.

Oracles and stages were improved until they found most of the older errors, so a high score on those shows little else.
The `BLIND` mutants were made without knowledge of the oracles and kept unchanged; so were the `LATER` and the `LATEST`
ones.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console

from benchmarks.pages import DOCS, markdown_table, put_between_markers
from benchmarks.trials import code_digest
from explorer.experiment import Experiment, RunOptions
from explorer.search.campaign import Campaign
from protocol.atomic import write_file
from protocol.errors import UsageError
from scenarios import SCENARIOS

PLANTED = Path(__file__).with_name("planted")
RESULTS = Path("build/mutants.json")
KERNEL = "5.4-fixed"
BUDGET = 200
BASELINE = 3
"""The unpatched kernel gets so many times the budget, so that its own rare findings are not blamed on the mutant."""

FLAWED_BASELINE = 20
"""The factor on a stage where the unpatched kernel has findings: one of its flaws has symptoms that are much rarer."""

LEFT_OUT = ("canary", "traced-create", "traced-rmdir-idle", "traced-rmdir-held")
"""Stages without a race in the kernel."""

SMALLER: dict[str, dict[str, str]] = {
    "shared-dentry": {"generations": "4"},
    "rmdir-under-load": {"objects": "12"},
    "slab-zombies": {"objects": "6", "seconds": "6"},
}
"""Smaller parameters for stages that are long with their defaults."""


BLIND = frozenset(
    (
        "alias_without_mutex",
        "aliens_sent_to_this_node",
        "bit_cleared_for_good",
        "bulk_skips_one",
        "count_without_rcu",
        "cpu_slab_of_before",
        "creation_put_first",
        "dentry_freed_on_list",
        "evicted_under_writeback",
        "flush_before_barrier",
        "iterator_put_first",
        "lists_moved_to_root",
        "offline_keeps_stocks",
        "parent_put_first",
        "put_reads_mode_early",
        "statistics_of_another_node",
        "stock_before_references",
        "stock_of_another_cpu",
        "uncharge_stops_early",
        "work_runs_twice",
    )
)
"""The mutants made without knowledge of the oracles; the gaps that they revealed are closed now."""

LATER = frozenset(
    (
        "batch_not_counted",
        "bulk_freed_to_root",
        "cgroup_left_without_css",
        "clean_after_write",
        "dying_without_lock",
        "file_let_go_before_show",
        "flush_misses_last",
        "freeing_set_after_unlock",
        "inode_not_looked_at_again",
        "iteration_not_broken_off",
        "mode_read_outside_section",
        "partials_listed_before_lock",
        "reap_without_mutex",
        "shared_drained_before_alien",
        "size_published_first",
        "stock_flushing_for_ever",
        "struct_freed_before_params",
        "surplus_slabs_forgotten",
        "tid_not_stepped",
        "walk_goes_on_after_retry",
    )
)
"""The second set made in that way; the gaps that it revealed are closed, too."""

LATEST = frozenset(
    (
        "array_of_another_cpu",
        "children_shown_unlocked",
        "contended_shrinkers_locked",
        "dead_dentry_found",
        "drained_stock_not_empty",
        "file_left_before_read",
        "inode_in_use_isolated",
        "kill_unconfirmed",
        "kmem_limit_keeps_charge",
        "lru_chosen_before_lock",
        "lru_registered_unready",
        "parent_never_offline",
        "partial_kept_by_zombie",
        "put_without_dropping",
        "rcu_work_without_rcu",
        "revived_cache_stays_dying",
        "root_slab_not_pinning",
        "slab_on_list_discarded",
        "uncharged_pages_kept",
        "written_inode_not_resting",
    )
)
"""The third set made in that way, after those improvements; nothing has been changed because of it."""


@attrs.frozen
class Where:
    """One stage to explore: a scenario with an allocator."""

    scenario: str
    allocator: str

    def __str__(self) -> str:
        """The name in tables."""
        return self.scenario if self.allocator == "slub" else f"{self.scenario}, SLAB"

    def explore(self, patches: tuple[str, ...], budget: int, known: frozenset[str]) -> tuple[int, dict[str, int]]:
        """Search for a finding that is not *known*; return the schedules, and the first schedule of each signature."""
        settings = {**SMALLER.get(self.scenario, {}), "allocator": self.allocator}
        options = RunOptions(
            scenario=self.scenario,
            kernel=KERNEL,
            strategy="portfolio",
            driver="stepper",
            patches=patches,
            settings=settings,
        )

        def look(campaign: Campaign) -> None:
            if known and not campaign.stopped and campaign.found.keys() - known:
                campaign.stopped = "first"

        campaign = Campaign(Experiment.of(options), options, budget=budget, progress=look)
        with contextlib.suppress(UsageError):  # a Python exception in the mutated machine is no finding of the kernel
            campaign.run()
        if campaign.stopped == "interrupted":
            raise KeyboardInterrupt
        return campaign.schedules, {signature: found.first_schedule + 1 for signature, found in campaign.found.items()}


@attrs.frozen
class Verdict:
    """The result for a mutant: its stage, the finding, and the schedules of all scenarios up to it.

    `first` is the number of the schedule that shows it in that scenario, counted from 1.
    """

    where: str
    signature: str
    first: int
    schedules: int


@attrs.define
class Study:
    """The verdicts so far, and the findings of the unpatched kernel; kept in a file."""

    path: Path
    budget: int
    baseline: dict[str, list[str]] = attrs.field(factory=dict)
    verdicts: dict[str, Verdict] = attrs.field(factory=dict)

    @classmethod
    def load(cls, path: Path, budget: int) -> Study:
        """The saved study for this code and this budget; an empty one if they have changed."""
        study = cls(path, budget)
        if path.exists():
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if kept["code"] == code_digest() and kept["budget"] == budget:
                study.baseline = kept["baseline"]
                study.verdicts = {name: Verdict(**fields) for name, fields in kept["verdicts"].items()}
        return study

    def save(self) -> None:
        """Save everything."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        verdicts = {name: attrs.asdict(verdict) for name, verdict in self.verdicts.items()}
        kept = {"code": code_digest(), "budget": self.budget, "baseline": self.baseline, "verdicts": verdicts}
        write_file(self.path, json.dumps(kept, indent=0), overwrite=True)

    def known(self, where: Where) -> frozenset[str]:
        """The findings of the unpatched kernel on that stage, and a word that is no signature."""
        if str(where) not in self.baseline:
            _, found = where.explore((), BASELINE * self.budget, frozenset())
            if found:
                _, found = where.explore((), FLAWED_BASELINE * self.budget, frozenset())
            self.baseline[str(where)] = sorted(found)
            self.save()
        return frozenset(["", *self.baseline[str(where)]])

    def look_for(self, mutant: Path) -> Verdict:
        """Search all stages for what is new."""
        if mutant.stem not in self.verdicts:
            self.verdicts[mutant.stem] = self._search(mutant)
            self.save()
        return self.verdicts[mutant.stem]

    def _search(self, mutant: Path) -> Verdict:
        total = 0
        for where in stages(mutant):
            known = self.known(where)
            schedules, found = where.explore((str(mutant),), self.budget, known)
            new = sorted((first, signature) for signature, first in found.items() if signature not in known)
            if new:
                return Verdict(str(where), new[0][1], new[0][0], total + new[0][0])
            total += schedules
        return Verdict("", "", 0, total)


def stages(mutant: Path) -> Iterator[Where]:
    """The stages for a mutant: all, with the allocator that has the function, or else with SLUB first."""
    file = summary(mutant).partition(":")[0]
    allocators = {"mm/slab.c": ["slab"], "mm/slub.c": ["slub"]}.get(file, ["slub", "slab"])
    return (where for where in all_stages() if where.allocator in allocators)


def all_stages() -> Iterator[Where]:
    """Every scenario with a race, with SLUB, then with SLAB."""
    for allocator in ("slub", "slab"):
        for scenario in SCENARIOS:
            if scenario.name not in LEFT_OUT:
                yield Where(scenario.name, allocator)


def summary(mutant: Path) -> str:
    """The first line of the file: the planted error."""
    return (ast.get_docstring(ast.parse(mutant.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def all_mutants() -> list[Path]:
    """Every planted error, by name."""
    return sorted(path for path in PLANTED.glob("*.py") if path.stem != "__init__")


# -- the command ------------------------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `mutants`."""
    parser.add_argument("names", nargs="*", metavar="MUTANT", help="all, or some of benchmarks/planted")
    parser.add_argument("--budget", type=int, default=BUDGET, metavar="SCHEDULES", help="schedules for each scenario")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help=f"default: {RESULTS}")
    parser.add_argument("--no-pages", action="store_true", help="leave docs/ alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(options: argparse.Namespace) -> int:
    """Search for the mutants; 1 if one escapes."""
    mutants = find_mutants(options.names)
    study = Study.load(options.results, options.budget)
    progress = Console(stderr=True, highlight=False)
    for mutant in mutants:
        verdict = study.look_for(mutant)
        told = f"{verdict.signature} in {verdict.where}" if verdict.where else "escaped"
        progress.print(f"{mutant.stem}: {told}, {verdict.schedules} schedules", markup=False, soft_wrap=True)
    if not options.no_pages:
        put_between_markers(DOCS / "strategies.md", "mutants", page(study, all_mutants()))
    if options.json:
        print(json.dumps({name: attrs.asdict(verdict) for name, verdict in study.verdicts.items()}))
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
        for line in page(study, mutants):
            console.print(line, markup=False, soft_wrap=True)
    return 0 if all(study.verdicts[mutant.stem].where for mutant in mutants) else 1


def find_mutants(names: Sequence[str]) -> list[Path]:
    """The mutants of these names, or all; UsageError lists the known ones."""
    known = {path.stem: path for path in all_mutants()}
    for name in names:
        if name not in known:
            msg = f"{name}: there is no such mutant; there are {', '.join(known)}"
            raise UsageError(msg)
    return [path for name, path in known.items() if not names or name in names]


def page(study: Study, mutants: Sequence[Path]) -> list[str]:
    """The scores and tables of the older mutants, the blind ones, and the later ones."""
    judged = {mutant: study.verdicts[mutant.stem] for mutant in mutants if mutant.stem in study.verdicts}
    lines = [
        f"The kernel is {KERNEL}. Every scenario is explored with {study.budget} schedules by `portfolio`, seed 0,",
        "until a schedule shows a finding that the unpatched kernel does not show in the same scenario in",
        f"{BASELINE * study.budget} schedules ({FLAWED_BASELINE * study.budget:,} if the unpatched kernel has findings",
        "there). Schedules are counted from 1.",
    ]
    titles = {
        "of the older mutants": {mutant.stem for mutant in mutants} - BLIND - LATER - LATEST,
        "of the mutants that were made blind": BLIND,
        "of the mutants that were made blind later": LATER,
        "of the mutants that were made blind last": LATEST,
    }
    for title, names in titles.items():
        shown = {mutant: verdict for mutant, verdict in judged.items() if mutant.stem in names}
        if shown:
            found = sum(bool(verdict.where) for verdict in shown.values())
            lines += ["", f"Score: **{found} of {len(shown)}** {title} are found.", "", *table(shown)]
    return lines


def table(verdicts: dict[Path, Verdict]) -> list[str]:
    """A row for each mutant."""
    rows = [
        [
            mutant.stem,
            summary(mutant).rstrip("."),
            f"`{v.signature}`" if v.where else "**escaped**",
            v.where,
            f"{v.first}" if v.where else "",
        ]
        for mutant, v in verdicts.items()
    ]
    return markdown_table(["mutant", "what is planted", "found as", "in", "schedule"], rows)
