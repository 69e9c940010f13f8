"""A search that is reported as exhausted has seen everything: no sampler reaches a further class or finding.

Samplers do not use the search's independence relation, so they could refute it. The tests cover all scenarios of
docs/findings.json whose search was exhausted.
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
"""The largest number of schedules of a small scenario."""


@attrs.frozen
class Claim:
    """A scenario whose search was reported as exhausted after *schedules* schedules."""

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
        """Whether its search and 40 samples take less than a second."""
        return self.schedules <= MOST_SMALL and self.steps < 8_000

    @property
    def samples(self) -> int:
        """The number of schedules of each sampler in the slow tests: half a million steps."""
        return min(10_000, 500_000 * self.schedules // self.steps)

    def experiment(self) -> Experiment:
        """The scenario with its settings."""
        return Experiment.of(RunOptions(scenario=self.scenario, kernel=self.kernel, settings=self.settings))


def claims() -> Iterator[Claim]:
    """The exhausted searches of docs/findings.json, each scenario and setting once."""
    cells = json.loads((ROOT / "docs" / "findings.json").read_text(encoding="utf-8"))
    seen = set()
    for cell in cells:
        stage = cell["scenario"], cell["kernel"], tuple(sorted(cell["settings"].items()))
        if cell["stopped"] == "exhausted" and stage not in seen:
            seen.add(stage)
            yield Claim(*stage, cell["schedules"], cell["steps"], frozenset(cell["findings"]))


CLAIMS = list(claims())


def refuted_by(claim: Claim, samples: int) -> str:
    """Repeat the search, and compare *samples* schedules of each sampler; empty if the claim is not refuted."""
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
@pytest.mark.parametrize("claim", CLAIMS[::3], ids=str)
def test_no_sample_of_an_exhausted_stage_is_new(claim: Claim) -> None:
    """A million steps in samples of each: hundreds of a long scenario, thousands of a short one."""
    assert refuted_by(claim, claim.samples) == ""
