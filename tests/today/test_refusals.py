"""What 6.12 does not have is refused in one line."""

from __future__ import annotations

import pytest

from explorer.experiment import Experiment, RunOptions
from protocol.errors import UsageError


@pytest.mark.parametrize(
    ("scenario", "kernel", "settings", "line"),
    [
        ("nested", "6.12", (("allocator", "slab"),), "allocator=slab: 6.12 has SLUB only; Linux 6.8 has removed SLAB"),
        ("kmem-limit", "6.12", (), "--kernel 6.12: kmem-limit is not for this kernel; it is for original, v1, "),
        ("drain-vs-release", "5.3", (), "--kernel 5.3: drain-vs-release is not for this kernel; it is for 6.12"),
    ],
)
def test_a_machine_that_cannot_be_is_refused(
    scenario: str, kernel: str, settings: tuple[tuple[str, str], ...], line: str
) -> None:
    with pytest.raises(UsageError) as refused:
        Experiment.of(RunOptions(scenario=scenario, kernel=kernel, settings=settings))

    assert str(refused.value).startswith(line)
