"""All text from files and command lines is printed as plain text, without markup and without terminal controls."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.table import Table

from explorer.cli import main
from explorer.json_out import json_text
from explorer.output import LONGEST_STEM, stem_of
from explorer.report import PlainConsole, styled
from explorer.streams import as_text, shell_word
from protocol.findings import Finding
from protocol.log import LogReader, LogWriter
from protocol.records import Header, PatchRecord
from tests.helpers import pack, run_small

HOSTILE = [
    "[red]x[/]",
    "[/nope]",
    ":smile:",
    "\x1b[2J\x1b]0;title\x07",
    "x\r\rslabrace: all is well",
    "x\nok: nothing found",
    "\x9b31m\x85",
    "\x7f\x00\x08\x0b\x0c\t",
    "a\u202eb\u2066c\u2028d\u2029e\ufeff",
    "=' \"=",
]

hostile = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name.strip(".")
)


def is_harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [red] é… →", "plain [red] é… →"),
        ("\x1b[31m\r\n\t\x7f\x9b", r"\x1b[31m\r\n\t\x7f\x9b"),
        ("\u202e\u2028\ufeff\udcff\U000e0001", r"\u202e\u2028\ufeff\udcff\U000e0001"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_such(text: str, shown: str) -> None:
    assert as_text(text) == shown


@settings(max_examples=50)
@given(text=st.text())
def test_text_is_one_line_that_every_utf_8_terminal_shows(text: str) -> None:
    shown = as_text(text)

    assert shown.isprintable()
    assert shown.encode() is not None
    assert as_text(shown) == shown


@settings(max_examples=40)
@given(text=hostile)
def test_a_console_prints_text_as_it_stands_in_lines_and_tables(text: str) -> None:
    out = io.StringIO()
    table = Table("name", title=text, box=None)
    table.add_row(text)
    PlainConsole(out).print(text, styled((text, "bold"), text), table)
    shown = out.getvalue()

    assert is_harmless(shown)
    assert shown.startswith(f"{as_text(text)}\n{as_text(text)}{as_text(text)}\n")
    assert len(shown.split("\n")) == 6, "two lines, a table of three, and their end"


def test_a_console_neither_wraps_nor_cuts() -> None:
    out, long = io.StringIO(), "long words " * 100 + "x" * 500
    table = Table("name", box=None, pad_edge=False)
    table.add_row(long)
    PlainConsole(out).print(long, table)

    assert out.getvalue().count(long) == 2


def test_a_word_for_the_shell_is_the_same_word_again() -> None:
    words = [*HOSTILE, "plain", "a b", "it's", "\\", "-x", "--", "\udcff\udc00"[:1], "é\n", "$HOME`ls`*~"]
    words = [word.replace("\0", "") for word in words]
    script = "".join(f"printf '%s\\0' {shell_word(word)};" for word in words)
    answer = subprocess.run(["/bin/bash", "-c", script], capture_output=True, check=True)  # noqa: S603 -- a command of the tests

    assert script.isprintable()
    assert answer.stdout.split(b"\0")[:-1] == [
        os.fsencode(f"./{word}" if word.startswith("-") else word) for word in words
    ]


@given(words=st.text(max_size=300))
def test_every_name_that_is_made_of_words_can_be_a_file(words: str) -> None:
    stem = stem_of(words)

    assert 0 < len(stem.encode()) <= LONGEST_STEM
    assert stem.isprintable()
    assert not set(stem) & set(" /\0'\"$*")
    assert stem[0] not in ".-"


def test_json_has_no_nan_and_no_control_character() -> None:
    assert json_text({"x": "\x1b\x7f\x9b\u202e\udcff"}) == '{"schema": 1, "x": "\\u001b\\u007f\\u009b\\u202e\\udcff"}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"x": float("nan")})


# -- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Header:
    """The header of a run with a finding."""
    path = tmp_path_factory.mktemp("good") / "x.log"
    run_small("canary", log=path)
    log = LogReader(path)
    log.close()
    return log.header


def write_hostile(path: Path, header: Header, text: str) -> None:
    """Write a log with *text* in every text field."""
    finding = Finding(
        kind=text, name=text, message=text, step=0, time=0, function=text, stack=(text,), details=(text,), flow=text
    )
    with LogWriter(path, overwrite=True) as writer:
        writer.header(header)
        for record in (
            ["phase", "set-up"],
            ["lane", 0, text, "T", 0],
            ["set", 0, [0]],
            ["fn", 0, text],
            ["op", 0, text, "read"],
            ["owner", 1, text],
            [0, 0, 0, 0, 0, 1],
            ["phase", text],
            ["finding", msgspec.to_builtins(finding)],
        ):
            writer.write(pack(record))


def check_harmless(capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()

    assert is_harmless(out)
    assert is_harmless(err)
    assert code in {0, 1, 2, 4}, err
    assert code != 2 or (err.count("\n"), err[:10]) == (1, "slabrace: ")


def headers_with(good: Header, text: str) -> list[Header]:
    """Headers with *text* in informative fields, and in fields that name something."""
    patch = PatchRecord(name=text)
    return [
        msgspec.structs.replace(good, strategy=text, driver=text, slabrace=text, shows=text),
        msgspec.structs.replace(good, scenario=text),
        msgspec.structs.replace(good, kernel=text),
        msgspec.structs.replace(good, check=text),
        msgspec.structs.replace(good, parameters={**good.parameters, text: text}),
        msgspec.structs.replace(good, patches=(patch,)),
        msgspec.structs.replace(good, without=(text,)),
        msgspec.structs.replace(good, faults={text: 0.5}),
    ]


def check_log(path: Path, capsys: pytest.CaptureFixture[str], good: Header, text: str) -> None:
    for header in headers_with(good, text):
        write_hostile(path, header, text)
        for command in ("log", "replay", "slabinfo", "explain", "keep"):
            check_harmless(capsys, command, path)
        check_harmless(capsys, "log", path, "--json")


@pytest.mark.parametrize("text", ["[/nope]", "".join(HOSTILE)])
def test_a_hostile_log_is_printed_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], good: Header, text: str
) -> None:
    check_log(tmp_path / "x.log", capsys, good, text)


@pytest.mark.slow
@settings(max_examples=60)
@given(text=hostile)
def test_every_log_is_printed_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], good: Header, text: str
) -> None:
    check_log(tmp_path / "x.log", capsys, good, text)


def check_name(tmp_path: Path, capsys: pytest.CaptureFixture[str], good: Header, name: str) -> None:
    path = tmp_path / "names" / name
    path.parent.mkdir(exist_ok=True)
    write_hostile(path, good, "x")
    for arguments in (
        ["log", path],
        ["replay", path],
        ["replay", path, "--patch", path],
        ["match", path],
        ["run", "canary", "--log", path],
        ["run", "canary", "--no-log", "--set", f"slabinfo={path}"],
        ["run", "canary", "--force", "--log", path],
        ["explain", path],
        ["keep", "--check", path],
        ["run", name],
        [name],
        ["list", f"--{name}"],
    ):
        check_harmless(capsys, *arguments)
    path.unlink()


@pytest.mark.parametrize("name", ["[red]x[\\]", "\udcff\x1b[31m\n\u202e"])
def test_a_hostile_file_name_is_printed_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], good: Header, name: str
) -> None:
    check_name(tmp_path, capsys, good, name)


@pytest.mark.slow
@settings(max_examples=40)
@given(name=names)
@example("-x")
def test_every_file_name_is_printed_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], good: Header, name: str
) -> None:
    check_name(tmp_path, capsys, good, name)
