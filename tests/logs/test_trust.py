"""No command runs code only because a log or a kept finding contains it or names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from explorer.cli import main
from protocol.records import PatchRecord, hash_of
from tests.helpers import pack, read_body, read_payloads, write_payloads

MARKER = Path("it-ran")

CODE = """\
from pathlib import Path

from actors.machine.context import WARN_ON
from actors.api import kernel_fn, unpatched

Path("it-ran").touch()


@kernel_fn("do_exit", "kernel/exit.c")
async def do_exit(ctx):
    WARN_ON(ctx, ctx.name == "count1", "planted")
    await unpatched(ctx, do_exit)
"""

Told = tuple[int, str, str]
Command = Callable[..., Told]

READERS = [
    ("replay", "LOG"),
    ("slabinfo", "LOG"),
    ("shrink", "LOG", "--budget", "20", "--force"),
    ("explain", "LOG"),
    ("keep", "LOG", "--force"),
    ("explore", "--from", "LOG", "--at", "AT", "--budget", "2", "--no-log"),
]


@pytest.fixture
def slabrace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process, after removing the marks of code that ran before."""
    monkeypatch.chdir(tmp_path)
    MARKER.unlink(missing_ok=True)

    def run(*words: object) -> Told:
        MARKER.unlink(missing_ok=True)
        capsys.readouterr()
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def log(slabrace: Command) -> Path:
    """A log with a finding that a patch file causes."""
    Path("idea.py").write_text(CODE)
    assert slabrace("run", "canary", "--set", "rounds=1", "--patch", "idea.py", "--log", "x.log")[0] == 1
    return Path("x.log")


def words_for(reader: tuple[str, ...], log: Path) -> list[str]:
    """The words of a command that reads a log; a step number is in the race."""
    phases = [
        record[1] if record[0] == "phase" else record[0] for record in map(msgspec.msgpack.decode, read_body(log))
    ]
    at = sum(isinstance(entry, int) for entry in phases[: phases.index("race")])
    return [{"LOG": str(log), "AT": str(at)}.get(word, word) for word in reader]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader[0])
def test_the_code_of_a_log_runs_only_if_the_user_says_so(slabrace: Command, log: Path, reader: tuple[str, ...]) -> None:
    words = words_for(reader, log)
    code, out, err = slabrace(*words)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("slabrace: x.log: recorded with the patch idea.py (from idea.py, sha256 ")
    assert "--trust" in err
    assert "--patch" in err
    assert not MARKER.exists()
    Path("idea.py").rename("mine.py")
    for more in (["--trust"], ["--patch", "mine.py"]):
        code, _, err = slabrace(*words, *more)
        assert code in (0, 1), err
        assert MARKER.exists()


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader[0])
@pytest.mark.parametrize(
    "patch",
    [
        PatchRecord("idea.py"),
        PatchRecord("idea.py", "idea.py"),
        PatchRecord("idea.py", "idea.py", hash_of(CODE)),
        PatchRecord("work-fn-store-after-free", "idea.py", hash_of(CODE), CODE),
        PatchRecord("a264df74df38", "", hash_of(CODE), CODE),
        PatchRecord("idea.py", "idea.py", hash_of(CODE), CODE + "\n"),
    ],
    ids=["a name", "a path", "a path and its hash", "a fix's name", "a fix's commit", "another text"],
)
def test_no_file_runs_because_a_log_names_it(
    slabrace: Command, log: Path, patch: PatchRecord, reader: tuple[str, ...]
) -> None:
    """--trust does not allow it: it applies to the text in the log, unless this text has the name of a fix."""
    words = words_for(reader, log)
    _, *rest = read_payloads(log)
    header = msgspec.to_builtins(msgspec.msgpack.decode(read_payloads(log)[0])[1])
    write_payloads(log, [pack(["header", {**header, "patches": [msgspec.to_builtins(patch)]}]), *rest])
    for more in ([], ["--trust"]):
        code, _, err = slabrace(*words, *more)

        assert (code, err.count("\n")) == (2, 1), err
        assert not MARKER.exists()


def test_no_file_passes_for_a_fix_on_the_command_line_either(slabrace: Command, log: Path) -> None:
    shutil.copy("idea.py", "work-fn-store-after-free")
    code, _, err = slabrace("run", "canary", "--no-log", "--patch", "./work-fn-store-after-free")

    assert code == 2
    assert "is the name of a built-in fix" in err
    assert not MARKER.exists()
    assert log.exists()


def test_a_patch_can_be_read_before_it_is_trusted(slabrace: Command, log: Path) -> None:
    code, out, _ = slabrace("log", log, "--patches")

    assert code == 0
    assert out == f"# idea.py, from idea.py\n{CODE}"
    assert not MARKER.exists()


# -- kept findings ----------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(slabrace: Command, log: Path) -> Path:
    """A kept finding that names the file of its patch."""
    code, out, err = slabrace("keep", log, "--patch", "idea.py", "--name", "planted", "--expect", "finding", "--json")
    assert code == 0, err
    return Path(json.loads(out)["file"])


def test_a_kept_finding_runs_its_patch_only_if_the_user_says_so(slabrace: Command, kept: Path) -> None:
    code, _, err = slabrace("keep", "--check", kept.parent)

    assert (code, err.count("\n")) == (2, 1)
    assert "kept with the patch idea.py, which runs only if you say so: give --trust, or --patch idea.py" in err
    assert not MARKER.exists()
    for more in (["--trust"], ["--patch", "./idea.py"]):
        assert slabrace("keep", "--check", kept.parent, *more)[0] == 0
        assert MARKER.exists()


def test_the_name_of_a_fix_trusts_no_file(slabrace: Command, kept: Path) -> None:
    Path("work-fn-store-after-free").symlink_to("idea.py")
    code, _, err = slabrace("keep", "--check", kept.parent, "--patch", "work-fn-store-after-free")

    assert code == 2
    assert "runs only if you say so" in err
    assert not MARKER.exists()


def test_a_search_runs_no_patch_that_a_kept_finding_names(slabrace: Command, kept: Path) -> None:
    code, _, err = slabrace(
        "explore", "canary", "--set", "rounds=1", "--budget", "3", "--no-log", "--kept", kept.parent
    )

    assert code in (0, 1), err
    assert not MARKER.exists()


def test_the_test_of_kept_findings_says_whether_it_runs_their_patches(slabrace: Command, kept: Path) -> None:
    test = kept.with_name("test_kept.py")
    assert "assert_as_expected(path, trust=True)" in test.read_text()
    test.write_text(test.read_text().replace(", trust=True", ""))
    code, _, err = slabrace("keep", "x.log", "--patch", "idea.py", "--name", "again")

    assert code == 0
    assert err == f"slabrace: {test} runs no files: let it say assert_as_expected(path, trust=True)\n"
