"""What is said to be gone through to the end is: no sampler comes to a class or to a finding that the search has not.

Samplers know nothing of the search and of what it takes for independent, so they could refute it. The stages are all
those of docs/findings.json whose search came to its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import attrs
import pytest

from explorer.experiment import Experiment, RunOptions
from tests.search.stages import Gone
from tests.tidy.sources import ROOT

SAMPLERS = ("pos", "random")

MOST_SMALL = 1_000
"""A stage of up to so many schedules is small."""


@attrs.frozen
class Claim:
    """A stage that is said to be gone through by so many *schedules*."""

    scenario: str
    kernel: str
    settings: tuple[tuple[str, str], ...]
    schedules: int
    steps: int

    def __str__(self) -> str:
        return f"{self.scenario} on {self.kernel}"

    @property
    def is_tiny(self) -> bool:
        """Whether going through it, and 40 samples, take less than a second."""
        return self.schedules <= MOST_SMALL // 10 and self.steps < 8_000

    @property
    def samples(self) -> int:
        """How many schedules of each sampler the slow tests hold against it."""
        return 1_000 if self.schedules <= MOST_SMALL else 10_000

    def experiment(self) -> Experiment:
        """The stage."""
        return Experiment.of(RunOptions(scenario=self.scenario, kernel=self.kernel, settings=self.settings))


def claims() -> Iterator[Claim]:
    """What docs/findings.json says was gone through to the end, each stage once."""
    cells = json.loads((ROOT / "docs" / "findings.json").read_text(encoding="utf-8"))
    seen = set()
    for cell in cells:
        settings = tuple(sorted(cell["settings"].items()))
        claim = Claim(cell["scenario"], cell["kernel"], settings, cell["schedules"], cell["steps"])
        if cell["stopped"] == "exhausted" and (str(claim), settings) not in seen:
            seen.add((str(claim), settings))
            yield claim


CLAIMS = list(claims())


def refuted_by(claim: Claim, samples: int) -> str:
    """Go through a stage, and hold so many schedules of each sampler against it; empty if the claim stands."""
    experiment = claim.experiment()
    gone = Gone.through(experiment)
    if not gone.ended:
        return "the search does not come to its end"
    missed = (gone.missed(experiment, strategy, number) for strategy in SAMPLERS for number in range(samples))
    return next(filter(None, missed), "")


def test_there_are_claims_of_all_sizes() -> None:
    assert any(claim.is_tiny for claim in CLAIMS)
    assert any(claim.schedules > MOST_SMALL for claim in CLAIMS)


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.is_tiny], ids=str)
def test_no_sample_of_a_tiny_stage_is_new(claim: Claim) -> None:
    assert refuted_by(claim, 20) == ""


@pytest.mark.slow
@pytest.mark.parametrize("claim", CLAIMS, ids=str)
def test_no_sample_of_a_stage_that_was_gone_through_is_new(claim: Claim) -> None:
    """20,000 samples of the stages that take an exact search minutes, 2,000 of the others."""
    assert refuted_by(claim, claim.samples) == ""


# -- with what findings -----------------------------------------------------------------------------------------------

CHILD_NEVER_RELEASED = frozenset(
    {"leak:kmem_cache held by its kobject:", "property:eventually: no child cache is left:"}
)
NEVER_RELEASED = frozenset({"leak:kmem_cache held by its kobject:", "property:eventually: no cache is left:"})
"""A cache that was removed from sysfs twice (docs/findings.md, F5)."""

FREED_WHILE_ITS_COUNT_IS_SWITCHED = frozenset(
    {
        "invariant:I7:slab_kmem_cache_release",
        "use-after-free:KmemCache:kmemcg_cache_shutdown",
        "use-after-free:PercpuRef:percpu_ref_call_confirm_rcu",
        "use-after-free:PercpuRef:percpu_ref_exit",
        "use-after-free:PercpuRef:percpu_ref_put_many",
        "use-after-free:PercpuRef:percpu_ref_switch_to_atomic_rcu",
        "use-after-free:PercpuRef:rcu_do_batch",
        "warn:percpu_ref_exit: confirm_switch is set:percpu_ref_exit",
    }
)
"""All that comes of exit-during-atomic-switch (BUGS.md)."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kernel", "expected"),
    [
        ("offline-vs-free", "5.4-fixed", CHILD_NEVER_RELEASED),
        ("offline-vs-destroy", "5.4-fixed", NEVER_RELEASED),
        ("offline-vs-destroy", "5.3", NEVER_RELEASED | FREED_WHILE_ITS_COUNT_IS_SWITCHED),
    ],
)
def test_a_stage_is_gone_through_with_these_findings(name: str, kernel: str, expected: frozenset[str]) -> None:
    gone = Gone.through(Experiment.of(RunOptions(scenario=name, kernel=kernel)))

    assert gone.ended
    assert gone.found == expected
