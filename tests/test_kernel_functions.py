"""The table of kernel functions is complete in every process, whichever modules the process has imported."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.helpers import run_process
from tests.tidy.sources import modules

PATCH = """
from actors.api import kernel_fn, unpatched


@kernel_fn("vfs_read", "fs/read_write.c")
async def vfs_read(ctx, *arguments):
    await unpatched(ctx, vfs_read, *arguments)
"""

TELL = "from actors.versions.kernel_fn import functions; print(*functions())"

FIRST = {
    "the table itself": "",
    "a library call": "from explorer.experiment import Experiment, RunOptions\n"
    "Experiment.of(RunOptions(scenario='canary'))\n",
    "the command line": "from explorer.cli import make_parser\nmake_parser()\n",
    "what a worker imports": "import explorer.search.campaign\n",
}
"""The imports of a process before it reads the table."""


def declared() -> set[str]:
    """The names that `@kernel_fn` declares, read from the text of the modules."""
    return {
        str(decorator.args[0].value)
        for module in modules("actors/linux", "actors/files")
        for function in module.tree.body
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in function.decorator_list
        if isinstance(decorator, ast.Call)
        and getattr(decorator.func, "id", "") == "kernel_fn"
        and isinstance(decorator.args[0], ast.Constant)
    }


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_every_process_knows_every_function_that_is_declared(first: str) -> None:
    answer = run_process(sys.executable, "-c", first + TELL)

    assert answer.returncode == 0, answer.stderr
    assert set(answer.stdout.split()) == declared()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_patch_is_taken_by_one_process_and_by_many(tmp_path: Path, workers: str) -> None:
    """The scenario reads no file, so only the patch refers to the function."""
    patch = tmp_path / "reads.py"
    patch.write_text(PATCH, encoding="utf-8")
    script = (
        "from explorer.search.campaign import Campaign\n"
        "from explorer.experiment import Experiment, RunOptions\n"
        "if __name__ == '__main__':\n"
        f"    options = RunOptions(scenario='rmdir-empty', patches=({str(patch)!r},), strategy='random')\n"
        f"    campaign = Campaign(Experiment.of(options), options, budget=16, workers={workers})\n"
        "    campaign.run()\n"
        "    print(campaign.schedules)\n"
    )
    program = tmp_path / "search.py"
    program.write_text(script, encoding="utf-8")
    answer = run_process(sys.executable, str(program))

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "16\n"
