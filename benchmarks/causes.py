"""`python -m benchmarks causes`: whether `explain` names the known cause of a finding.

Each entry of `CAUSES` is a finding with a known cause: the order of two steps, written down from BUGS.md, KERNEL.md and
docs/findings.md as functions and operations. The flaw is searched with several seeds. Each first schedule that shows it
is explained without shrinking, and the first pair shown is compared with the known one. The table goes into
docs/causes.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator

import attrs
from rich.console import Console

from benchmarks.pages import DOCS
from benchmarks.rows import Kernel, kernels
from explorer.experiment import Experiment
from explorer.explain.explanation import Explanation, explain_schedule
from explorer.search.campaign import Campaign, Found
from protocol.atomic import write_file
from protocol.errors import UsageError

GOAL = 0.9
"""The share of pairs that are the known ones: 18 of 20."""

SEEDS = 3
"""Schedules explained for each finding: the pair may be clear in one schedule and not in another."""

PAGE = DOCS / "causes.md"
BUDGET = 3_000

FREE = r"kobject_put|destroy_memcg_params|slab_kmem_cache_release|percpu_ref_exit"
"""The last steps before a cache is freed; the free itself is not a step."""


@attrs.frozen(kw_only=True)
class Cause:
    """A finding with its cause: the step `first` comes before the step `second`, in the wrong order.

    Both are patterns of a step: the functions that its flow is in, outermost first, and the operation after a colon.
    `why` is the cause in words, `source` its reference.
    """

    slug: str
    scenario: str
    kernel: Kernel
    signature: str
    first: str
    second: str
    why: str
    source: str
    settings: tuple[tuple[str, str], ...] = ()
    strategy: str = "portfolio"

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"{self.slug} on {self.kernel}"


def cause(  # noqa: PLR0917 -- a row of a table
    slug: str, where: str, on: str, signature: str, pair: tuple[str, str], why: str, source: str, **more: object
) -> list[Cause]:
    """One entry for each kernel with the flaw."""
    return [
        Cause(
            slug=slug,
            scenario=where,
            kernel=kernel,
            signature=signature,
            first=pair[0],
            second=pair[1],
            why=why,
            source=source,
            **more,  # type: ignore[arg-type]  # fields by their names
        )
        for kernel in kernels(on)
    ]


CAUSES: tuple[Cause, ...] = (
    *cause(
        "alloc-without-cache-ref",
        "late-allocation",
        "v1",
        r"use-after-free:\w+:(memcg_charge_slab|kmemcg_cache_get_many|new_slab)$",
        (FREE, r"memcg_charge_slab|kmemcg_cache_get_many|new_slab"),
        "the cache is freed before the allocation, which holds no reference, charges its page",
        "BUGS.md; B1",
    ),
    *cause(
        "dying-test-unlocked",
        "free-vs-destroy",
        "v1..v3",
        r"use-after-free:KmemCache:(rcu_do_batch|kmemcg_(rcufn|queue_work|after_rcu_workfn|workfn))$",
        (r"rcu_barrier: entrain|: read_dying", r"call_rcu: call_rcu|: set_dying"),
        "dying is read before it is set, so the callback is queued after rcu_barrier() has checked the callback lists",
        "BUGS.md; B3",
    ),
    *cause(
        "exit-during-atomic-switch",
        "destroy-vs-offline",
        "v2..5.3",
        r"warn:percpu_ref_exit|use-after-free:PercpuRef:",
        (r"rcu_barrier: entrain", r"percpu_ref.*call_rcu: call_rcu"),
        "the destruction's rcu_barrier() checks the lists before the kill of the child's count queues its callback",
        "BUGS.md, KERNEL.md 8.2; B8",
    ),
    *cause(
        "exit-during-atomic-switch, later",
        "offline-vs-destroy",
        "5.3",
        r"use-after-free:KmemCache:kmemcg_cache_shutdown$",
        (r"rcu_barrier: entrain", r"percpu_ref.*call_rcu: call_rcu"),
        "as in exit-during-atomic-switch; the finding is the callback's use of the root",
        "BUGS.md, KERNEL.md 8.2; B8",
    ),
    *cause(
        "memcg-pointer-before-rcu-free",
        "destroy-typesafe",
        "v3..5.3",
        r"null-deref:memcg_uncharge_slab",
        (r"memcg_unlink_cache: set_memcg", r"memcg_uncharge_slab: read_memcg"),
        "the pointer is cleared before the slab that RCU delays is uncharged",
        "BUGS.md, KERNEL.md H5; B9",
    ),
    *cause(
        "root-uncharge-underflow",
        "late-allocation",
        "v2; v3 +rcu-lock-for-unlock",
        r"accounting:page_counter underflow:",
        (r"memcg_deactivate_kmem_caches: set_memcg", r"memcg_charge_slab: read_memcg"),
        "the cache is reparented before the allocation reads the memcg that it charges",
        "BUGS.md, KERNEL-v1-v3.md 3.4; B7",
    ),
    *cause(
        "root-uncharge-underflow",
        "late-allocation",
        "v4..v7",
        r"accounting:page_counter underflow:",
        (r"percpu_ref_kill_and_confirm: set_flags", r"percpu_ref_tryget_live: read_flags"),
        "rmdir kills the css before the allocation tries to take a reference to it, so an ancestor is charged",
        "BUGS.md, KERNEL.md H4; B7",
    ),
    *cause(
        "destroy-vs-deferred-deactivation",
        "destroy-vs-offline",
        "original -destroy-vs-deferred-deactivation",
        r"use-after-free:",
        (
            rf"{FREE}|kmem_cache_destroy",
            r"kmemcg_deactivate_workfn|worker_thread: take|kmemcg_rcufn|rcu_do_batch|run_softirqs",
        ),
        "the destruction frees the child before its deferred deactivation has run",
        "BUGS.md, 92ee383f6daa",
    ),
    *cause(
        "flush-only",
        "destroy-vs-offline",
        "original +flush-only",
        r"use-after-free:",
        (r"flush_workqueue: last_ticket", r"__queue_work: insert"),
        "the flush reads the last ticket of the queue before the callback has queued its work",
        "BUGS.md, 92ee383f6daa",
    ),
    *cause(
        "synchronize-rcu-only",
        "destroy-vs-offline",
        "original +synchronize-rcu-only",
        r"use-after-free:",
        (rf"{FREE}|flush_workqueue: last_ticket", r"run_softirqs|rcu_do_batch|__queue_work: insert"),
        "the destruction waits for a grace period, not for the callback: the child is freed before the callback runs",
        "BUGS.md, 92ee383f6daa",
    ),
    *cause(
        "partial-limit-not-visible",
        "full-slab-free",
        "original +partial-limit-not-visible; 5.3 +partial-limit-not-visible",
        r"leak:",
        (r"put_cpu_partial: read", r"mail"),
        "the free reads the limit before the store of zero is visible on its CPU",
        "BUGS.md",
    ),
    *cause(
        "sysfs-vs-shutdown",
        "sysfs-vs-shutdown",
        "original; 5.3",
        r"deadlock:",
        (r"kernfs_get_active", r"sysfs_slab_unlink: deactivate"),
        "the reader enters the file before the shutdown removes it, and the shutdown holds locks that the reader needs",
        "BUGS.md, e4f8e513c3d3; B12",
    ),
    *cause(
        "late allocation",
        "late-allocation",
        "5.4-fixed",
        r"leak:kmem_cache held by an empty cpu slab",
        (r"flush_all: has_cpu_slab", r"new_slab|kmem_cache_free|cache_from_obj"),
        "the deactivation flushes the CPU before the late page becomes the cpu slab",
        "docs/findings.md F1, KERNEL.md 7.3",
        strategy="random",
    ),
    *cause(
        "uncharged from another",
        "late-allocation",
        "5.4-fixed",
        r"accounting:page_counter underflow:",
        (r"percpu_ref_kill_and_confirm: set_flags", r"percpu_ref_tryget_live: read_flags"),
        "rmdir kills the css before the allocation tries to take a reference to it, so an ancestor is charged",
        "docs/findings.md F4",
        strategy="random",
        settings=(("allocator", "slab"),),
    ),
    *cause(
        "removal announced twice",
        "destroy-vs-offline",
        "5.3; 5.4-fixed",
        r"leak:kmem_cache held by its kobject",
        (r"sysfs_slab_remove.*queue_work_on: test_and_set_pending", r"worker_thread: take"),
        "the second removal is announced before the work of the first has begun, so no second work is queued",
        "docs/findings.md F5",
    ),
    *cause(
        "css put of another memcg",
        "late-allocation",
        "v1",
        r"leak:css reference",
        (r"set_memcg", r"memcg_kmem_put_cache: read_memcg"),
        "the cache is reparented before the allocation reads the memcg whose css it puts",
        "docs/findings.md F7, KERNEL-v1-v3.md 2.3",
    ),
    *cause(
        "charge of a memcg that nobody holds",
        "late-allocation",
        "v2",
        r"refcount:Css:percpu_ref_get_many",
        (r"percpu_ref_put_many: atomic_add", r"percpu_ref_get_many: atomic_add"),
        "the last reference to the css is put before the charge takes its own reference",
        "docs/findings.md F10, KERNEL-v1-v3.md 3.4",
    ),
)


@attrs.frozen
class Answer:
    """The result of `explain` for one cause: the first pair, whether it is the known one, and that one's rank."""

    cause: str
    seed: int
    scenario: str
    why: str
    source: str
    signature: str
    shown: str
    said: str
    is_known: bool
    place: int
    seconds: float

    @property
    def place_in_words(self) -> str:
        """`yes` if the known pair is shown first, else its rank, or `no`."""
        return "yes" if self.is_known else str(self.place or "no")


def ask(entry: Cause, seed: int) -> Answer:
    """Search the flaw, explain it, and compare the pairs."""
    began = time.monotonic()
    campaign, found = search(entry, seed)
    if found is None:
        return Answer(entry.name, seed, entry.scenario, entry.why, entry.source, "", "not found", "", False, 0, 0.0)
    explanation = explain_schedule(campaign.experiment, found.schedule, found.finding.signature)
    shown = [pair_of(explanation, at) for at in range(len(explanation.conflicts.found))]
    right = [at for at, pair in enumerate(shown, 1) if all(map(re.search, (entry.first, entry.second), pair))]
    return Answer(
        entry.name,
        seed,
        entry.scenario,
        entry.why,
        entry.source,
        found.finding.signature,
        " before ".join(f"`{short(step)}`" for step in shown[0]) if shown else "no pair",
        "; ".join(explanation.cause),
        right[:1] == [1],
        right[0] if right else 0,
        round(time.monotonic() - began, 1),
    )


def search(entry: Cause, seed: int) -> tuple[Campaign, Found | None]:
    """Search until the flaw is found, or the budget is spent."""
    pattern = re.compile(entry.signature)

    def look(campaign: Campaign) -> None:
        if not campaign.stopped and any(map(pattern.match, campaign.found)):
            campaign.stopped = "first"

    options = entry.kernel.options(entry.scenario, entry.strategy, seed, entry.settings)
    campaign = Campaign(Experiment.of(options), options, budget=BUDGET, progress=look)
    campaign.run()
    if campaign.stopped == "interrupted":
        raise KeyboardInterrupt
    return campaign, next((found for name, found in campaign.found.items() if pattern.match(name)), None)


def pair_of(explanation: Explanation, at: int) -> tuple[str, str]:
    """One of the pairs shown: each step as its functions, outermost first, and its operation."""
    conflict = explanation.conflicts.found[at]
    one, other = (
        f"{' > '.join(explanation.details[place].stack)}: {explanation.trace.steps[place].operation}"
        for place in (conflict.first, conflict.second)
    )
    return one, other


def short(step: str) -> str:
    """The innermost function and the operation."""
    return step.rpartition(" > ")[2]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `causes`."""
    parser.add_argument("--causes", nargs="+", default=[], metavar="SLUG", help="only these")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="schedules of each finding")
    parser.add_argument("--no-page", action="store_true", help="leave docs/ alone")
    parser.add_argument("--json", action="store_true", help="print one JSON list instead of a table")


def run(options: argparse.Namespace) -> int:
    """Explain all findings and print the table; 1 if the share of known pairs is below the goal."""
    known = {entry.slug for entry in CAUSES}
    for slug in options.causes:
        if slug not in known:
            msg = f"--causes {slug}: there is no such cause; there are {', '.join(sorted(known))}"
            raise UsageError(msg)
    progress = Console(stderr=True, highlight=False)
    answers = []
    for entry in CAUSES:
        if options.causes and entry.slug not in options.causes:
            continue
        for seed in range(options.seeds):
            answer = ask(entry, seed)
            answers.append(answer)
            told = "the known one" if answer.is_known else "not the known one"
            progress.print(f"{answer.cause}, seed {seed}: {answer.shown}: {told}", markup=False, soft_wrap=True)
    lines = list(page(answers))
    if not options.no_page:
        write_file(PAGE, "\n".join([*lines, ""]), overwrite=True)
    if options.json:
        print(json.dumps([attrs.asdict(answer) for answer in answers]))
    else:
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)
    return int(sum(answer.is_known for answer in answers) < GOAL * len(answers))


def page(answers: list[Answer]) -> Iterator[str]:
    """docs/causes.md."""
    right = sum(answer.is_known for answer in answers)
    yield "# Whether explain names the cause"
    yield ""
    yield "This page is made by `python -m benchmarks causes`. The known pair of steps of a finding comes from history,"
    yield "or from [findings.md](findings.md); `benchmarks/causes.py` lists the pairs by their functions and"
    yield "operations. Each flaw is searched with several seeds, and the first schedule that shows it is explained"
    yield "without shrinking. The ranking of pairs was developed on some of these findings"
    yield "([ADR 12](adr/0012-the-cause-changes-least.md)), so the page is not a blind test of the ranking."
    yield ""
    yield f"In {right} of {len(answers)} explanations the first pair shown is the known pair. The last column has, for"
    yield "each seed, *yes* (the known pair is shown first), its rank among the pairs shown, or *no* (it is not shown)."
    yield "The pair in the table is from the first seed."
    yield ""
    yield "| finding | stage | known cause | source | first pair shown | known pair |"
    yield "| --- | --- | --- | --- | --- | --- |"
    firsts = [answer for answer in answers if answer.seed == 0]
    for first in firsts:
        places = ", ".join(answer.place_in_words for answer in answers if answer.cause == first.cause)
        yield f"| {first.cause} | {first.scenario} | {first.why} | {first.source} | {first.shown} | {places} |"
    yield ""
    yield "`explain` also states these causes, in addition to the pairs. The step numbers are from the run of seed 0:"
    yield ""
    for answer in firsts:
        if answer.said:
            yield f"- {answer.cause}, `{answer.signature}`: {answer.said}"
