"""Errors of a patch during its import, and files that are no patches."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import Command, check_usage_error
from tests.patches.conftest import MakePatch, line_of

STUCK = "it has not come back for 0.2 s: a step has to end; does it loop for ever?"

BROKEN = {
    "sys.exit": ("sys.exit(0)  # here", "SystemExit: 0"),
    "sys.exit with words": ("sys.exit('bye')  # here", "SystemExit: bye"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt  # here", "KeyboardInterrupt"),
    "GeneratorExit": ("raise GeneratorExit  # here", "GeneratorExit"),
    "one of its own": ("class Own(BaseException): pass\nraise Own('x')  # here", "Own: x"),
    "a recursion": ("def f(): f()  # here\nf()", "RecursionError: it calls itself for ever"),
    "a loop": ("while True: pass  # here", STUCK),
    "a loop that catches": (
        "while True:  # here\n    try:\n        time.sleep(1)\n    except Exception:\n        pass",
        STUCK,
    ),
    "a thread": ("threading.Thread(target=print).start()  # here", "it starts a thread, which is outside the machine"),
    "a module": (
        "slab_common.kmemcg_workfn = None  # here",
        "it changes kmemcg_workfn of the module actors.linux.mm.slab_common, which is not the patch's",
    ),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("before", "said"), BROKEN.values(), ids=BROKEN)
def test_an_error_at_import_is_the_patch_s(slabrace: Command, make_patch: MakePatch, before: str, said: str) -> None:
    patch = make_patch("pass", f"{before}\n")
    for command in ("run", "explore"):
        line = check_usage_error(slabrace(command, "rmdir-empty", "--patch", patch, "--json"))

        within = ", in f" if "def f()" in before else ""
        assert line == f"slabrace: --patch {patch}, line {line_of(patch)}{within}: {said}"


def test_a_folder_and_a_pipe_are_no_patches(slabrace: Command, tmp_path: Path) -> None:
    """Reading a pipe without a writer would block."""
    folder, pipe = tmp_path / "folder.py", tmp_path / "pipe.py"
    folder.mkdir()
    os.mkfifo(pipe)
    for path in (folder, pipe):
        line = check_usage_error(slabrace("run", "rmdir-empty", "--patch", path))

        assert line == f"slabrace: --patch {path}: it is not a file"


@pytest.mark.parametrize("write", ["print", "sys.stdout.write", "builtins.print"])
def test_the_output_of_a_patch_is_not_part_of_the_answer(slabrace: Command, make_patch: MakePatch, write: str) -> None:
    body = f"{write}(f'in {{work.pending}}\\n')\nawait unpatched(ctx, kmemcg_workfn, work)"
    patch = make_patch(body, f"import builtins\n{write}('at import\\n')\n")
    answer = slabrace("run", "rmdir-empty", "--patch", patch, "--no-log", "--json")

    assert json.loads(answer.out)["outcome"] == "ok"
    assert answer.err.split("\n\n" if write.endswith("print") else "\n")[:2] == ["at import", "in False"]
