"""The bytes of a log: written records are read again unchanged, and every damage is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.errors import DamagedLogError, UsageError
from protocol.log import (
    FLUSH_BYTES,
    LONGEST_RECORD,
    MAGIC,
    READ_BY,
    VERSION,
    LogReader,
    LogWriter,
)
from protocol.records import CodeRecord, Contents, Footer, Header, Names, PatchRecord, Step, decode, hash_of
from tests.helpers import Payload, Record, pack, start_of_log, write_payloads

HEADER = Header(
    scenario="canary",
    kernel="5.3",
    strategy="random",
    seed=7,
    driver="stepper",
    parameters={"rounds": 3},
    slabrace="0.1.0",
)

texts = st.text(max_size=40)
naturals = st.integers(0, 2**40)
files = st.builds(lambda name, text: PatchRecord(name, f"./{name}", hash_of(text), text), texts, texts)
code = st.builds(lambda name, text: CodeRecord(name, f"./{name}", hash_of(text), text), texts, texts)


def with_code(header: Header, of_scenario: CodeRecord | None) -> Header:
    """The header of a scenario of a file, which has the name of its code."""
    return msgspec.structs.replace(
        header, scenario_code=of_scenario, scenario=of_scenario.name if of_scenario else header.scenario
    )


plain_headers = st.builds(
    Header,
    scenario=texts,
    kernel=texts,
    strategy=texts,
    seed=st.integers(0, 2**64 - 1),
    driver=texts,
    parameters=st.dictionaries(texts, texts | st.integers(-(2**63), 2**64 - 1), max_size=5),
    slabrace=texts,
    check=texts,
    patches=st.lists(st.builds(PatchRecord, texts) | files, max_size=3).map(tuple),
    without=st.lists(texts, max_size=3).map(tuple),
    faults=st.dictionaries(texts, st.floats(0, 1), max_size=3),
    oracles=st.lists(st.builds(CodeRecord, texts) | code, max_size=3).map(tuple),
)
headers = st.builds(with_code, plain_headers, st.none() | code)


@st.composite
def whole_runs(draw: st.DrawFn) -> list[Record]:
    """Records as a run writes them: each number is defined before it is used."""
    counts = {tag: draw(st.integers(1, 3)) for tag in ("lane", "set", "fn", "op", "owner")}
    records: list[Record] = [["lane", n, draw(texts), draw(st.sampled_from(KINDS)), n] for n in range(counts["lane"])]
    numbers = st.integers(0, counts["lane"] - 1)
    sets = [draw(st.lists(numbers, min_size=1, max_size=3, unique=True)) for _ in range(counts["set"])]
    records += [["set", n, lanes] for n, lanes in enumerate(sets)]
    records += [["fn", n, f"{draw(texts)}{n}"] for n in range(counts["fn"])]
    records += [["op", n, draw(texts), draw(st.sampled_from(ACCESSES))] for n in range(counts["op"])]
    records += [["owner", n + 1, draw(texts)] for n in range(counts["owner"])]
    for _ in range(draw(st.integers(0, 6))):
        chosen = draw(st.integers(0, counts["set"] - 1))
        below = [len(sets[chosen]), counts["fn"], counts["op"], counts["owner"] + 1]
        records.append([draw(naturals), chosen, *(draw(st.integers(0, most - 1)) for most in below)])
        records += draw(st.sampled_from(([], [["value", 3, 2]], [["moved", 0, None]], [["phase", "race"]])))
    return records


KINDS = ("T", "KW", "SI", "HI", "KT", "A")
ACCESSES = ("read", "update", "commute")


@contextmanager
def reading(path: Path) -> Iterator[LogReader]:
    log = LogReader(path)
    try:
        yield log
    finally:
        log.close()


def write_log(path: Path, *, header: Header = HEADER, records: list[Record], footer: Footer | None = None) -> Path:
    with closing(LogWriter(path, overwrite=True)) as writer:
        writer.header(header)
        for record in records:
            writer.write(pack(record))
        if footer is not None:
            writer.footer(footer)
    return path


def footer_of(records: list[Record]) -> Footer:
    """The footer for these records."""
    contents = Contents()
    for record in records:
        contents.take(pack(record), decode(pack(record)))
    outcome = "finding" if contents.signatures else "ok"
    return Footer(outcome, contents.steps, contents.digest())


def phase(size: int) -> Record:
    """A record whose payload has *size* bytes, at least 9."""
    spare = next(n for n in range(max(size - 16, 0), size) if len(pack(["phase", "x" * n])) == size)
    return ["phase", "x" * spare]


def whole_finding(**changes: object) -> dict[str, object]:
    """The fields of a finding in the first step."""
    fields = {"kind": "warn", "name": "w", "message": "x" * 300, "step": 0, "time": 100, "function": "f", "flow": "t"}
    return {**fields, **changes}


@pytest.fixture
def small_log(tmp_path: Path) -> Path:
    """A log with every kind of record, and with a frame of each form of length."""
    records: list[Record] = [
        ["lane", 0, "worker0", "T", 0],
        ["set", 0, [0]],
        ["fn", 0, "kmem_cache_alloc"],
        ["op", 0, "read", "read"],
        ["owner", 1, "kmem_cache dentry"],
        [100, 0, 0, 0, 0, 1],
        ["value", 3, 1],
        ["moved", 0, 1],
        ["finding", whole_finding()],
        [200, 0, 0, 0, 0, 1],
    ]
    return write_log(tmp_path / "small.log", records=records, footer=footer_of(records))


# -- what is written is read ------------------------------------------------------------------------------------------


@given(records=whole_runs(), header=headers)
def test_header_records_and_footer_are_read_as_they_were_written(
    tmp_path: Path, records: list[Record], header: Header
) -> None:
    footer = footer_of(records)
    path = write_log(tmp_path / "x.log", header=header, records=records, footer=footer)
    with reading(path) as log:
        read = list(log.records())

        assert log.header == header
        assert [record for _, record in read] == [decode(pack(record)) for record in records]
        assert [payload for payload, _ in read] == [pack(record) for record in records]
        assert log.footer == footer
        assert log.damage is None
        assert not log.is_damaged


@pytest.mark.parametrize(
    "sizes", [(9, 253, 254, 255, 256, 257), (65_535, 65_536, 200_000), (LONGEST_RECORD, 9), (FLUSH_BYTES, FLUSH_BYTES)]
)
def test_payloads_of_every_length_keep_their_bytes_and_their_order(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    records = [phase(size) for size in sizes]
    with reading(write_log(tmp_path / "x.log", records=records)) as log:
        assert [payload for payload, _ in log.records()] == [pack(record) for record in records]


def test_a_record_that_no_reader_would_take_is_not_written(tmp_path: Path) -> None:
    """The longest records are headers, which contain the texts of files."""
    with pytest.raises(UsageError, match=r"x\.log: a record of 1048577 bytes, and a log takes 1048576 at most"):
        write_log(tmp_path / "x.log", records=[phase(LONGEST_RECORD + 1)])


def test_a_step_costs_five_bytes_more_than_its_numbers(tmp_path: Path) -> None:
    """The frame adds one byte of length and four of checksum; with small numbers a step takes a dozen bytes."""
    step = [100, 3, 1, 7, 2, 9]
    sizes = [write_log(tmp_path / "x.log", records=[step] * count).stat().st_size for count in (0, 1, 1001)]

    assert sizes[1] - sizes[0] == len(pack(step)) + 5
    assert sizes[2] - sizes[0] == 1001 * (len(pack(step)) + 5)


def test_the_header_is_on_disk_before_the_first_step(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "x.log")
    writer.header(HEADER)
    with reading(tmp_path / "x.log") as log:
        assert log.header == HEADER
    writer.close()


def test_what_was_written_reaches_the_disk_in_whole_records_as_it_grows(tmp_path: Path) -> None:
    """A killed run loses only the records in its buffer."""
    writer = LogWriter(tmp_path / "x.log")
    writer.header(HEADER)
    payload = pack(phase(1000))
    for count in range(300):
        writer.write(payload)
        with reading(tmp_path / "x.log") as log:
            read = [payload for payload, _ in log.records()]

            assert not log.is_damaged
            assert read == [payload] * len(read)
            assert (count + 1 - len(read)) * len(payload) < FLUSH_BYTES
    writer.close()


def test_a_log_begins_with_its_magic_and_its_version(small_log: Path) -> None:
    assert small_log.read_bytes().startswith(MAGIC + VERSION.to_bytes(2, "little"))


def test_names_turn_the_numbers_of_a_step_into_names(small_log: Path) -> None:
    names = Names()
    lanes = []
    with reading(small_log) as log:
        for _, record in log.records():
            names.learn(record)
            if isinstance(record, Step):
                lanes.append((names.lane(record).name, names.lane(record).cpu))

                assert names.enabled(record) == ("worker0",)
                assert names.functions[record.function] == "kmem_cache_alloc"
                assert names.operations[record.operation] == ("read", "read")
                assert names.owners[record.owner] == "kmem_cache dentry"

    assert lanes == [("worker0", 0), ("worker0", 1)], "it moved in between"


# -- nothing is overwritten -------------------------------------------------------------------------------------------


def test_an_existing_file_is_not_written_over_unasked(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("precious")

    with pytest.raises(UsageError, match=r"x\.log: a file with this name exists"):
        LogWriter(path)
    assert path.read_text() == "precious"


def test_an_existing_file_is_replaced_when_asked(small_log: Path) -> None:
    write_log(small_log, records=[])
    with reading(small_log) as log:
        assert list(log.records()) == []


# -- damage -----------------------------------------------------------------------------------------------------------


@attrs.frozen
class Reading:
    """The readable part of a damaged file: its payloads, and the line about the damage."""

    payloads: list[Payload]
    line: str | None
    is_damaged: bool


def read_all(path: Path) -> Reading:
    """Read a file to its end or its first damage; the only permitted error is a UsageError of one line."""
    try:
        with reading(path) as log:
            payloads = [payload for payload, _ in log.records()]
            return Reading(payloads, log.damage, log.is_damaged)
    except UsageError as error:
        return Reading([], str(error), is_damaged=True)


def test_a_log_torn_at_any_byte_is_read_up_to_there_or_refused_in_one_line(small_log: Path) -> None:
    whole = small_log.read_bytes()
    payloads = read_all(small_log).payloads
    torn = small_log.with_name("torn.log")
    lengths = []
    for size in range(len(whole)):
        torn.write_bytes(whole[:size])
        result = read_all(torn)
        lengths.append(len(result.payloads))

        assert result.payloads == payloads[: len(result.payloads)]
        assert result.line is not None
        assert "\n" not in result.line
        assert str(torn) in result.line

    assert lengths == sorted(lengths), "more bytes, more records"
    assert lengths[-1] == len(payloads)


@pytest.mark.slow
def test_every_flipped_bit_is_noticed(small_log: Path) -> None:
    whole = small_log.read_bytes()
    payloads = read_all(small_log).payloads
    flipped = small_log.with_name("flipped.log")
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        flipped.write_bytes(damaged)
        result = read_all(flipped)

        assert result.line is not None, f"bit {bit % 8} of byte {bit // 8}"
        assert "\n" not in result.line
        assert result.payloads == payloads[: len(result.payloads)], f"bit {bit % 8} of byte {bit // 8}"


@pytest.mark.slow
def test_a_flipped_bit_is_damage_not_the_early_end_of_a_killed_run(small_log: Path) -> None:
    """Complete records behind the flipped length show that the file was damaged, not cut off."""
    whole = small_log.read_bytes()
    footer_at = whole.rindex(b"\x92\xa6footer") - 5
    flipped = small_log.with_name("flipped.log")
    taken_for_torn = []
    for bit in range(8 * footer_at):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        flipped.write_bytes(damaged)
        if not read_all(flipped).is_damaged:
            taken_for_torn.append(bit)

    assert taken_for_torn == []


@given(junk=st.binary(min_size=1, max_size=60), data=st.data())
def test_bytes_that_are_put_in_are_noticed(small_log: Path, junk: bytes, data: st.DataObject) -> None:
    whole = small_log.read_bytes()
    footer_at = whole.rindex(b"\x92\xa6footer") - 5
    place = data.draw(st.integers(0, footer_at))
    changed = small_log.with_name("changed.log")
    changed.write_bytes(whole[:place] + junk + whole[place:])
    if changed.read_bytes()[:footer_at] == whole[:footer_at]:
        return  # the inserted bytes equal the bytes that they displace
    payloads = read_all(small_log).payloads
    result = read_all(changed)

    assert result.line is not None
    assert result.payloads == payloads[: len(result.payloads)]


@pytest.mark.parametrize("zeros", [1, 4, 5, 9, 64, 5000])
def test_a_tail_of_zeros_is_a_torn_tail(small_log: Path, zeros: int) -> None:
    """After a power failure a file may end in blocks of zeros; a log has no empty record, so they are no records."""
    whole = small_log.read_bytes()
    payloads = read_all(small_log).payloads
    small_log.write_bytes(whole[: whole.rindex(b"\x92\xa6footer") - 5] + bytes(zeros))
    result = read_all(small_log)

    assert result.payloads == payloads
    assert result.line is not None
    assert "\n" not in result.line


@given(junk=st.binary(max_size=200))
@example(b"")
@example(MAGIC)
@example(start_of_log())
@example(start_of_log() + bytes(50))
@example(start_of_log() + b"\xff" * 50)
def test_a_file_of_any_bytes_is_refused_in_one_line(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(junk)

    with pytest.raises(DamagedLogError) as raised:
        LogReader(path)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"{path}: ")


def with_header(**changes: object) -> Record:
    """The header record with some fields changed; None removes a field."""
    fields: dict[str, Any] = {**msgspec.to_builtins(HEADER), **changes}
    return ["header", {name: value for name, value in fields.items() if value is not None}]


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(with_header(scenario=None), id="a field is missing"),
        pytest.param(with_header(colour="red"), id="a field too many"),
        pytest.param(with_header(patches=7), id="patches are no list"),
        pytest.param(with_header(parameters=[1]), id="parameters are no table"),
        pytest.param(with_header(seed="seven"), id="the seed is no number"),
        pytest.param(with_header(scenario=5), id="the scenario is no name"),
        pytest.param(["header"], id="nothing in it"),
        pytest.param(["header", 3], id="a number in it"),
        pytest.param(["step", 1], id="another record"),
        pytest.param([1, 2, 3, 4, 5, 6], id="a step"),
        pytest.param([], id="an empty record"),
        pytest.param(5, id="a number"),
        pytest.param({"header": 1}, id="a table"),
        pytest.param(None, id="nil"),
    ],
)
def test_a_first_record_that_is_no_header_of_ours_is_refused_in_one_line(tmp_path: Path, record: Any) -> None:
    path = write_payloads(
        tmp_path / "x.log", [pack(record), pack(["footer", msgspec.to_builtins(Footer("ok", 0, ""))])]
    )

    with pytest.raises(DamagedLogError) as raised:
        LogReader(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x92\xa6header", b"\xff\xff"])
def test_a_first_record_that_is_no_msgpack_is_refused_in_one_line(tmp_path: Path, payload: Payload) -> None:
    path = write_payloads(tmp_path / "x.log", [payload])

    with pytest.raises(DamagedLogError) as raised:
        LogReader(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("version", [VERSION + 1, VERSION + 200, 65_535])
def test_a_log_of_a_later_version_is_refused_by_its_number(small_log: Path, version: int) -> None:
    whole = small_log.read_bytes()
    small_log.write_bytes(start_of_log(version) + whole[len(start_of_log()) :])

    with pytest.raises(DamagedLogError, match=f"{version} is newer than {VERSION}"):
        LogReader(small_log)


@pytest.mark.parametrize("version", READ_BY)
def test_a_log_of_an_earlier_version_is_refused_with_the_slabrace_that_reads_it(small_log: Path, version: int) -> None:
    whole = small_log.read_bytes()
    small_log.write_bytes(start_of_log(version) + whole[len(start_of_log()) :])

    with pytest.raises(DamagedLogError, match=f"format {version} is older.*; slabrace {READ_BY[version]} reads it$"):
        LogReader(small_log)


def test_a_missing_file_and_a_folder_are_refused_in_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError) as raised:
            LogReader(path)
        assert str(raised.value).startswith(f"{path}: cannot read the log: ")
        assert "\n" not in str(raised.value)
