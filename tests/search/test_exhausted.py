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

MOST_SMALL = 100
"""A stage of up to so many schedules is small."""


@attrs.frozen
class Claim:
    """A stage that is said to be gone through by so many *schedules*."""

    scenario: str
    kernel: str
    settings: tuple[tuple[str, str], ...]
    schedules: int
    steps: int
    findings: frozenset[str] = attrs.field(eq=False)

    def __str__(self) -> str:
        return f"{self.scenario} on {self.kernel} with {dict(self.settings)['allocator']}"

    @property
    def is_tiny(self) -> bool:
        """Whether going through it, and 40 samples, take less than a second."""
        return self.schedules <= MOST_SMALL and self.steps < 8_000

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
        stage = cell["scenario"], cell["kernel"], tuple(sorted(cell["settings"].items()))
        if cell["stopped"] == "exhausted" and stage not in seen:
            seen.add(stage)
            yield Claim(*stage, cell["schedules"], cell["steps"], frozenset(cell["findings"]))


CLAIMS = list(claims())


def refuted_by(claim: Claim, samples: int) -> str:
    """Go through a stage, and hold so many schedules of each sampler against it; empty if the claim stands."""
    experiment = claim.experiment()
    gone = Gone.through(experiment)
    if not gone.ended:
        return "the search does not come to its end"
    if gone.found != claim.findings:
        return f"the search finds {', '.join(sorted(gone.found)) or 'nothing'}"
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
