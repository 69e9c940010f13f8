"""Broken patches in processes of their own: in workers, without end, and with coroutines left at the exit of Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers import MODULE, run_process, without_findings
from tests.patches.conftest import MakePatch, line_of

pytestmark = pytest.mark.slow

SEARCH = ("explore", "rmdir-empty", "--kernel", "5.3", "--budget", "20", "--no-log")

UNENDING = """
while True:  # here
    try:
        try:
            time.sleep(1)
        except BaseException:
            pass
    except BaseException:
        pass
"""

IMPATIENT = "import sys, explorer.cli, explorer.watchdog as w; w.TICK = 0.02; sys.exit(explorer.cli.main(sys.argv[1:]))"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("sys.exit(0)  # here", "SystemExit: 0"),
        ("raise KeyboardInterrupt  # here", "KeyboardInterrupt"),
        ("work.actor = None  # here", "it changes actor of work of kmem_cache alpha(3:job) without asking; "),
        ("while True: pass  # here", "it has not come back for 10 s: a step has to end; does it loop for ever?"),
    ],
    ids=["sys.exit", "KeyboardInterrupt", "a field", "a loop"],
)
def test_a_worker_says_what_is_wrong(make_patch: MakePatch, tmp_path: Path, body: str, said: str) -> None:
    patch = make_patch(body)
    answer = run_process(*MODULE, *SEARCH, "--workers", "2", "--patch", str(patch), cwd=tmp_path)

    assert answer.returncode == 2
    assert answer.stderr.startswith(f"slabrace: --patch {patch}, line {line_of(patch)}, in kmemcg_workfn: {said}")
    assert answer.stderr.count("\n") == 1


def test_a_patch_that_cannot_be_stopped_ends_with_the_process(make_patch: MakePatch, tmp_path: Path) -> None:
    patch = make_patch(UNENDING.strip())
    answer = run_process(sys.executable, "-c", IMPATIENT, "run", "rmdir-empty", "--patch", str(patch), cwd=tmp_path)

    assert answer.returncode == 2
    assert answer.stderr == (
        f"slabrace: --patch {patch}, line {line_of(patch)}, in kmemcg_workfn: "
        "it has not come back for 0.2 s: a step has to end; does it loop for ever?\n"
    )


def test_abandoned_flows_print_nothing(make_patch: MakePatch, tmp_path: Path) -> None:
    """A `finally` that awaits cannot be closed: Python would print a message for each such flow."""
    patch = make_patch(
        "try:\n    await ctx.sleep(10)\n    BUG_ON(ctx, True, 'mine')\nfinally:\n    await ctx.sleep(10**9)"
    )
    answer = run_process(*MODULE, *SEARCH, "--patch", str(patch), cwd=tmp_path)

    assert answer.returncode in (0, 1)
    assert without_findings(answer.stderr) == ""
