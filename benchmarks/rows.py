"""The rows of the table of historical bugs: each flaw's stage, its kernels, its signature, and its fixes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from actors.versions.profiles import profile_range
from explorer.experiment import RunOptions
from protocol.errors import UsageError
from protocol.findings import Finding
from protocol.vocabulary import PROFILES, TODAY

Settings = tuple[tuple[str, str], ...]
"""Knobs of a scenario, with their values."""


@attrs.frozen
class Kernel:
    """A profile, with fixes added to it or removed from it."""

    profile: str
    patches: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The name in tables and in the file of results."""
        return " ".join([self.profile, *(f"+{name}" for name in self.patches), *(f"-{name}" for name in self.without)])

    def options(self, scenario: str, strategy: str, seed: int, settings: Settings = ()) -> RunOptions:
        """The options for a search of *scenario* on this kernel."""
        return RunOptions(
            scenario=scenario,
            settings=settings,
            kernel=self.profile,
            strategy=strategy,
            seed=seed,
            driver="stepper",
            patches=self.patches,
            without=self.without,
        )


@attrs.frozen(kw_only=True)
class Row:
    """One flaw.

    The stage is `scenario` with the knobs in `settings`. `signature` matches its findings, and no other flaw's on this
    stage. `having` and `cured` are the kernels that must and that must not show it. A flaw that `needs_no_race` shows
    in every schedule. `note` explains why an expected kernel is missing.
    """

    slug: str
    scenario: str
    signature: re.Pattern[str]
    having: tuple[Kernel, ...]
    cured: tuple[Kernel, ...]
    settings: Settings = ()
    needs_no_race: bool = False
    note: str = ""

    @property
    def stage(self) -> str:
        """The scenario and its settings."""
        return " ".join([self.scenario, *(f"{name}={value}" for name, value in self.settings)])

    def is_shown_by(self, finding: Finding) -> bool:
        """Whether a finding is this flaw."""
        return self.signature.match(finding.signature) is not None


def row(
    slug: str,
    scenario: str,
    signature: str,
    having: str,
    cured: str = "",
    *,
    needs_no_race: bool = False,
    note: str = "",
) -> Row:
    """A row; kernels are written as in `profile_range` and `Kernel.__str__`, several with semicolons.

    *scenario* may have settings behind it: `last-object-vs-rmdir size=4096`.
    """
    name, *settings = scenario.split()
    return Row(
        slug=slug,
        scenario=name,
        settings=tuple((knob, value) for knob, _, value in (each.partition("=") for each in settings)),
        signature=re.compile(signature),
        having=kernels(having),
        cured=kernels(cured),
        needs_no_race=needs_no_race,
        note=note,
    )


def kernels(text: str) -> tuple[Kernel, ...]:
    """The kernels that *text* names: `v2..v7; 5.3 +a-patch; original -a-fix`."""
    found: list[Kernel] = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        profiles, *changes = part.split()
        patches = tuple(change[1:] for change in changes if change.startswith("+"))
        without = tuple(change[1:] for change in changes if change.startswith("-"))
        found += [Kernel(profile, patches, without) for profile in profile_range(profiles)]
    return tuple(found)


DESTROY = "destroy-vs-deferred-deactivation"
PARTIAL = "partial-limit-not-visible"

ROWS: tuple[Row, ...] = (
    row(
        "alloc-without-cache-ref",
        "late-allocation",
        r"use-after-free:\w+:(memcg_charge_slab|kmemcg_cache_get_many|new_slab)$",
        "v1",
        "original; v2..5.4-fixed",
    ),
    row(
        "sleep-in-rcu-charge",
        "reclaim-in-charge",
        r"atomic-sleep:try_to_free_",
        "v2..v3",
        "original..v1; v5..5.4-fixed; v4 +rcu-lock-for-unlock; v2 +sleep-in-rcu-charge; "
        "v3 +sleep-in-rcu-charge +rcu-lock-for-unlock",
        note="v3 and v4 have rcu-lock-for-unlock, which leads to the same sleep; so their cured kernels have the fix "
        "of that flaw, too",
    ),
    row(
        "dying-test-unlocked",
        "free-vs-destroy",
        r"use-after-free:KmemCache:(rcu_do_batch|kmemcg_(rcufn|queue_work|after_rcu_workfn|workfn))$",
        "v1..v3",
        "original; v4..5.4-fixed",
    ),
    row(
        "rcu-lock-for-unlock",
        "allocate-and-block",
        r"atomic-sleep:",
        "v3..v4",
        "original..v2; v5..5.4-fixed; v4 +rcu-lock-for-unlock",
        needs_no_race=True,
    ),
    row(
        "wq-lock-not-irq-safe",
        "softirq-free-vs-destroy",
        r"lockdep:softirq: memcg_kmem_wq_lock:|deadlock:.*\(spin_lock\)",
        "v4..v5",
        "original..v3; v6..5.4-fixed; v4..v5 +wq-lock-not-irq-safe",
    ),
    row(
        "wq-lock-not-irq-safe (deadlock)",
        "softirq-free-vs-destroy",
        r"deadlock:.*\(spin_lock\)",
        "v4..v5",
        "v4..v5 +wq-lock-not-irq-safe",
    ),
    row(
        "work-fn-store-after-free",
        "rmdir-empty",
        r"use-after-free:KmemCache:kmemcg_(after_rcu_)?workfn|null-deref:kmemcg_workfn\(\): s->memcg_params.work_fn:",
        "v1..v7",
        "original; 5.3..5.4-fixed; v2..v7 +work-fn-store-after-free",
        needs_no_race=True,
    ),
    row(
        "root-uncharge-underflow",
        "late-allocation",
        r"accounting:page_counter underflow:",
        "v3 +rcu-lock-for-unlock; v2; v4..v7",
        "original..v1; 5.3..5.4-fixed; v7 +root-uncharge-underflow",
        note="on plain v3 the allocation itself, by its unbalanced rcu_read_lock() (rcu-lock-for-unlock), keeps the "
        "cgroup from going offline meanwhile; with the fix of that, v3 shows the flaw",
    ),
    row(
        "exit-during-atomic-switch",
        "destroy-vs-offline",
        r"warn:percpu_ref_exit|use-after-free:PercpuRef:",
        "v2..5.3",
        "original..v1; 5.4-fixed; v2..5.3 +exit-during-atomic-switch",
    ),
    row(
        "memcg-pointer-before-rcu-free",
        "destroy-typesafe",
        r"null-deref:memcg_uncharge_slab",
        "v3..5.3",
        "original..v2; 5.4-fixed; v3..5.3 +memcg-pointer-before-rcu-free",
    ),
    row(
        "stranded-vmstat",
        "stranded-vmstat",
        r"accounting:slab_(un)?reclaimable too low",
        "v1..v7",
        "original; 5.3..5.4-fixed; v7 +stranded-vmstat +vmstat-lost-at-release",
        note="the fix alone flushes one of the two items only; the other is flushed before the memcg is freed",
    ),
    row(
        "alias-marked-dying",
        "alias-marked-dying",
        r"leak:",
        "original..5.3",
        "5.4-fixed; 5.3 +alias-marked-dying",
        needs_no_race=True,
    ),
    row(DESTROY, "destroy-vs-offline", r"use-after-free:", f"original -{DESTROY}", "original"),
    row("flush-only", "destroy-vs-offline", r"use-after-free:", "original +flush-only", "original"),
    row("synchronize-rcu-only", "destroy-vs-offline", r"use-after-free:", "original +synchronize-rcu-only", "original"),
    row(PARTIAL, "full-slab-free", r"leak:", f"original +{PARTIAL}; 5.3 +{PARTIAL}", "original; 5.3"),
    row(
        "sysfs-vs-shutdown",
        "sysfs-vs-shutdown",
        r"lockdep:kn->active|deadlock:.*\(kernfs_drain\)",
        "original..5.3",
        "5.4-fixed; original +sysfs-vs-shutdown; 5.3 +sysfs-vs-shutdown",
    ),
    row(
        "sysfs-vs-shutdown (deadlock)",
        "sysfs-vs-shutdown",
        r"deadlock:.*\(kernfs_drain\)",
        "original; 5.3",
        "5.4-fixed; original +sysfs-vs-shutdown; 5.3 +sysfs-vs-shutdown",
    ),
)


def find_rows(names: Sequence[str], rows: Sequence[Row] = ROWS) -> list[Row]:
    """Those of *rows* with these slugs, or all; UsageError lists the known ones."""
    known = [entry.slug for entry in rows]
    for name in names:
        if name not in known:
            msg = f"--rows {name}: there is no such row; there are {', '.join(known)}"
            raise UsageError(msg)
    return [entry for entry in rows if not names or entry.slug in names]


def check_profiles(names: list[str]) -> None:
    """UsageError if there is no such profile."""
    known = (*PROFILES, *TODAY)
    for name in names:
        if name not in known:
            msg = f"--kernels {name}: there is no such kernel; there are {', '.join(known)}"
            raise UsageError(msg)
