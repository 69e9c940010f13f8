"""`python -m tests.stress [KILLS [SIGNALS]]`: 50 kills and 100 signals at random moments; prints figures."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

from tests.stress.attacks import LONGEST_SECONDS, answer, kill_often, planned, signal_often


def main(kills: int, signals: int) -> int:
    """Attack a campaign, and compare it with one that nobody disturbed."""
    source = random.Random()
    with tempfile.TemporaryDirectory() as folder:
        disturbed, whole = Path(folder, "disturbed"), Path(folder, "whole")
        killed = kill_often(disturbed, kills, source)
        print(f"kill -9: {killed.kills} of the campaign, {killed.workers} of a worker", flush=True)  # noqa: T201 -- figures
        told = signal_often(disturbed, signals, source)
        print(f"{told.signals} signals; the slowest end after {told.longest:.2f} s", flush=True)  # noqa: T201 -- figures
        budget = planned(disturbed)
        same = answer(disturbed, budget) == answer(whole, budget)
    wrong = [*killed.wrong, *told.wrong]
    wrong += [] if same else ["the totals differ from those of the campaign that nobody disturbed"]
    wrong += [] if told.longest < LONGEST_SECONDS else [f"an end took {told.longest:.2f} s"]
    print("\n".join(wrong) or "nothing is wrong: all totals, findings and digests are equal")  # noqa: T201 -- figures
    return bool(wrong)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    sys.exit(main(*[*numbers, *[50, 100][len(numbers) :]]))
