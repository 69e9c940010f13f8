"""No command runs a scenario or an oracle only because a log or a kept finding contains it or names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocol.records import hash_of
from tests.doors import files
from tests.doors.conftest import Command, what_ran
from tests.helpers import pack, read_body, read_payloads, write_payloads

READERS = [
    ("replay", "LOG"),
    ("slabinfo", "LOG"),
    ("shrink", "LOG", "--budget", "20", "--force"),
    ("explain", "LOG"),
    ("keep", "LOG", "--force"),
    ("explore", "--from", "LOG", "--at", "AT", "--budget", "2", "--no-log"),
]

each_reader = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader[0])


@pytest.fixture
def log(slabrace: Command) -> Path:
    """A log of a scenario of a file, with a finding of an oracle of another file."""
    assert slabrace("run", "mine.py", "--oracle", "eyes.py:no-dying", "--log", "x.log")[0] == 1
    assert what_ran() == {"scenario", "oracle"}
    return Path("x.log")


def words_for(reader: tuple[str, ...], log: Path) -> list[str]:
    """The words of a command that reads a log; a step number is in the race."""
    records = [record for record in map(msgspec.msgpack.decode, read_body(log)) if isinstance(record[0], int)]
    before = [msgspec.msgpack.decode(payload) for payload in read_body(log)]
    race = before.index(["phase", "race"])
    at = sum(record in records for record in before[:race])
    return [{"LOG": str(log), "AT": str(at)}.get(word, word) for word in reader]


def change_header(log: Path, **fields: Any) -> None:
    """Write the log again with these fields of the header changed."""
    first, *rest = read_payloads(log)
    header = msgspec.msgpack.decode(first)[1]
    write_payloads(log, [pack(["header", {**header, **fields}]), *rest])


@each_reader
def test_the_code_of_a_log_runs_only_if_it_is_trusted_or_given_again(
    slabrace: Command, log: Path, reader: tuple[str, ...]
) -> None:
    words = words_for(reader, log)
    code, out, err = slabrace(*words)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("slabrace: x.log: recorded with the scenario mine.py:late-job (from mine.py, sha256 ")
    assert "--trust, or --scenario with a file of the same text" in err
    assert what_ran() == set()

    scenario = ["mine.py"] if reader[0] == "explore" else ["--scenario", "mine.py"]
    code, out, err = slabrace(*words, *scenario)
    assert (code, err.count("\n")) == (2, 1)
    assert "recorded with the oracle eyes.py:no-dying (from eyes.py, sha256 " in err
    assert "oracle" not in what_ran()

    for more in (["--trust"], [*scenario, "--oracle", "eyes.py:no-dying"]):
        code, _, err = slabrace(*words, *more)
        assert code in (0, 1), err
        assert what_ran() == {"scenario", "oracle"}


@each_reader
@pytest.mark.parametrize(
    "fields",
    [
        {"scenario_code": None},
        {"scenario": "mine.py", "scenario_code": None},
        {"scenario": "./mine.py:late-job", "scenario_code": None},
        {"scenario_code": {"name": "mine.py:late-job", "path": "mine.py"}},
        {"scenario_code": {"name": "mine.py:late-job", "path": "mine.py", "sha256": hash_of(files.SCENARIO)}},
        {"scenario_code": {"name": "other.py:x", "path": "mine.py", "sha256": hash_of("x"), "text": "x"}},
        {"scenario_code": {"name": "mine.py:late-job", "path": "mine.py", "sha256": hash_of("x"), "text": "y"}},
    ],
    ids=["no code", "a path", "a path and a name", "a path as code", "a hash", "two names", "another text"],
)
def test_no_scenario_runs_because_a_log_names_its_file(
    slabrace: Command, log: Path, fields: dict[str, Any], reader: tuple[str, ...]
) -> None:
    words = words_for(reader, log)
    change_header(log, **fields)
    code, _, err = slabrace(*words, "--trust")

    assert (code, err.count("\n")) == (2, 1), err
    assert what_ran() == set()


@pytest.mark.parametrize(
    "oracle", [{"name": "eyes.py"}, {"name": "./eyes.py:no-dying"}, {"name": "x", "path": "eyes.py"}]
)
def test_no_oracle_runs_because_a_log_names_its_file(slabrace: Command, log: Path, oracle: dict[str, str]) -> None:
    change_header(log, oracles=[oracle])
    code, _, err = slabrace("replay", log, "--trust")

    assert (code, err.count("\n")) == (2, 1), err
    assert "oracle" not in what_ran()


def test_a_log_of_before_is_read(slabrace: Command) -> None:
    slabrace("run", "canary", "--log", "old.log")
    first, *rest = read_payloads(Path("old.log"))
    header = msgspec.msgpack.decode(first)[1]
    old = {name: value for name, value in header.items() if name not in {"scenario_code", "oracles"}}
    write_payloads(Path("old.log"), [pack(["header", old]), *rest])

    assert len(old) == len(header) - 2
    assert slabrace("replay", "old.log")[0] == 1


def test_another_text_takes_the_place_of_that_of_the_log(slabrace: Command, log: Path) -> None:
    text = Path("mine.py").read_text().replace('stage.task("rmdir"', 'stage.task("takes-away"')
    Path("changed.py").write_text(text)
    code, out, _ = slabrace("replay", log, "--scenario", "changed.py", "--oracle", "eyes.py:no-dying")

    assert code == 4
    assert "enabled now: " in out
    assert "takes-away" in out
    assert "changed.py:late-job on 5.3" in out


def test_the_line_to_paste_gives_the_files_again(slabrace: Command, log: Path) -> None:
    _, out, _ = slabrace("replay", log, "--trust")
    line = next(line for line in out.splitlines() if line.startswith("replay: "))

    assert line == "replay: slabrace replay x.log --scenario mine.py:late-job --oracle eyes.py:no-dying"
    assert slabrace(*line.split()[2:])[0] == 1


def test_code_can_be_read_before_it_is_trusted(slabrace: Command, log: Path) -> None:
    code, out, _ = slabrace("log", log, "--patches")

    assert code == 0
    assert out == f"# mine.py:late-job, from mine.py\n{files.SCENARIO}# eyes.py:no-dying, from eyes.py\n{files.ORACLE}"
    assert what_ran() == set()


# -- kept findings ----------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(slabrace: Command, log: Path) -> Path:
    """A kept finding that names both files."""
    code, out, err = slabrace("keep", log, "--trust", "--name", "dying", "--expect", "finding", "--json")
    assert code == 0, err
    return Path(json.loads(out)["file"])


def test_a_kept_finding_runs_its_files_only_if_they_are_trusted_or_given(slabrace: Command, kept: Path) -> None:
    check = ("keep", "--check", kept.parent)
    code, _, err = slabrace(*check)

    assert (code, err.count("\n")) == (2, 1)
    assert "kept with the scenario mine.py, which runs only if you say so: give --trust, or --scenario mine.py" in err
    assert what_ran() == set()
    code, _, err = slabrace(*check, "--scenario", "mine.py")
    assert code == 2
    assert "kept with the oracle eyes.py, which runs only if you say so" in err
    for more in (["--trust"], ["--scenario", "./mine.py", "--oracle", "eyes.py"]):
        assert slabrace(*check, *more)[0] == 0
        assert what_ran() == {"scenario", "oracle"}


def test_the_test_of_kept_findings_trusts_their_files(kept: Path) -> None:
    assert "assert_as_expected(path, trust=True)" in kept.with_name("test_kept.py").read_text()


def test_a_kept_finding_says_that_a_file_has_changed(slabrace: Command, kept: Path) -> None:
    Path("mine.py").write_text(f"{files.SCENARIO}\n")
    code, out, _ = slabrace("keep", "--check", kept.parent, "--trust")

    assert code == 0
    assert "../mine.py has changed since" in out
    assert "eyes.py is not" not in out


def test_a_search_runs_first_what_was_kept_for_the_same_scenario(slabrace: Command, kept: Path) -> None:
    search = ("explore", "mine.py", "--budget", "3", "--no-log", "--kept", kept.parent, "--json")
    without, with_oracle = (json.loads(slabrace(*search, *more)[1]) for more in ((), ("--oracle", "eyes.py")))

    assert [one["signature"] for one in without["kept"]] == ["oracle:no-dying:"]
    assert not without["kept"][0]["shows_it"], "a search runs no oracle that a kept finding names"
    assert with_oracle["kept"][0]["shows_it"]
