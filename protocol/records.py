"""The records of a log: one schema for each, and the one place that refuses invalid ones.

`decode` checks a payload alone: its tag, its length, and the type and range of each field. `Names.learn` checks a
record against the records before it: each number is defined before it is used, and a choice is one of the enabled
lanes. A checksum shows that a file is unchanged; only these checks show that slabrace can have written it.
docs/log-format.md is the reference.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePath
from typing import Annotated, Any, Literal, Protocol, TypeAlias

import attrs
import msgspec
from msgspec import Meta, Struct

from protocol.findings import ORACLES, Finding, Natural

DIGEST_BYTES = 16

STEP_BYTE = 0x96
"""A msgpack array of six: only steps begin with this byte."""

Probability = Annotated[float, Meta(ge=0, le=1)]


class WrongRecordError(ValueError):
    """A record that slabrace cannot have written here; the text gives the reason, without the place."""


# -- the schema -------------------------------------------------------------------------------------------------------


class CodeRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """Code of a run, as a log carries it: its name, and for a file its path at that time and its text.

    The name is `FILE` or `FILE:NAME`. Code without path and text is built in or installed, and its name identifies it.
    `sha256` is the hash of the text. A reader of the log runs that text only if told to.
    """

    name: str
    path: str = ""
    sha256: str = ""
    text: str = ""

    @property
    def is_code(self) -> bool:
        """Whether this is a user's file, not code that its name identifies."""
        return bool(self.path or self.sha256 or self.text)

    @property
    def file(self) -> str:
        """The file name of its code, for tracebacks; empty if there is none. The file need not exist here."""
        return str(PurePath(self.path or self.name)) if self.is_code else ""

    @property
    def member(self) -> str:
        """NAME of `FILE:NAME`; empty if the whole file is meant."""
        return self.name.removeprefix(PurePath(self.path).name).removeprefix(":") if self.is_code else ""


class PatchRecord(CodeRecord, frozen=True, forbid_unknown_fields=True):
    """A patch: the name of a named fix, or a file."""


class Header(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The data that a replay needs to set up the same run, and that a reader needs first.

    `parameters` are the scenario's parameters by name, with the content (not the path) of files. `patches` are the
    named fixes and files that were laid over the kernel, `without` the fixes taken out. `faults` are probabilities by
    name. `shows` is the signature of the finding for which the log was written, if any. `scenario_code` is the file of
    a scenario that comes from a file. `oracles` are the user's oracles that checked the machine.
    """

    scenario: str
    kernel: str
    strategy: str
    seed: int
    driver: str
    parameters: dict[str, int | str]
    slabrace: str
    check: str = "step"
    patches: tuple[PatchRecord, ...] = ()
    without: tuple[str, ...] = ()
    faults: dict[str, Probability] = {}
    shows: str = ""
    scenario_code: CodeRecord | None = None
    oracles: tuple[CodeRecord, ...] = ()

    @property
    def code(self) -> tuple[CodeRecord, ...]:
        """All code that the log carries, and the fixes and the installed oracles that it names."""
        scenario = () if self.scenario_code is None else (self.scenario_code,)
        return (*self.patches, *scenario, *self.oracles)


class Record(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One record between header and footer; in the log, an array that begins with its tag."""


class Step(Record, frozen=True):
    """One recorded step. `index` is the choice within enabled set `enabled_set`; `dt` is ns since the step before.

    `function`, `operation` and `owner` are numbers of definitions; owner 0 means none. A step has no tag.
    """

    dt: Natural
    enabled_set: Natural
    index: Natural
    function: Natural
    operation: Natural
    owner: Natural


class LaneRecord(Record, frozen=True, tag="lane"):
    """Definition: lane *number*, a schedulable entity, has this name. An actor with mail has kind `A` and no CPU."""

    number: Natural
    name: str
    kind: Literal["T", "KW", "SI", "HI", "KT", "A"]
    cpu: Natural | None


class SetRecord(Record, frozen=True, tag="set"):
    """Enabled set *number*: the lanes that may step, in the order of their creation."""

    number: Natural
    lanes: tuple[Natural, ...]


class FunctionRecord(Record, frozen=True, tag="fn"):
    """Definition: a kernel function that makes requests."""

    number: Natural
    name: str


class OperationRecord(Record, frozen=True, tag="op"):
    """Definition: an operation."""

    number: Natural
    name: str
    access: Literal["read", "update", "commute"]


class OwnerRecord(Record, frozen=True, tag="owner"):
    """Definition: the object of a request; 0 means none and is never defined."""

    number: Natural
    label: str


class ValueRecord(Record, frozen=True, tag="value"):
    """The environment chose *value* below *count* within the step just recorded."""

    count: Natural
    value: Natural


class MovedRecord(Record, frozen=True, tag="moved"):
    """The lane is on another CPU from now on."""

    lane: Natural
    cpu: Natural | None


class PhaseRecord(Record, frozen=True, tag="phase"):
    """A phase of the scenario begins."""

    name: str


class FindingRecord(Record, frozen=True, tag="finding"):
    """A finding, when its signature is first seen."""

    finding: Finding


class Footer(Struct, frozen=True, forbid_unknown_fields=True):
    """The outcome of the run, and the digest of all its records between header and footer."""

    outcome: str
    steps: Natural
    digest: str


class FooterRecord(Record, frozen=True, tag="footer"):
    """The end of the run; the last record."""

    footer: Footer


class HeaderRecord(Record, frozen=True, tag="header"):
    """The experiment; the first record."""

    header: Header


Definition: TypeAlias = LaneRecord | SetRecord | FunctionRecord | OperationRecord | OwnerRecord
DEFINITIONS = (LaneRecord, SetRecord, FunctionRecord, OperationRecord, OwnerRecord)

_STEPS = msgspec.msgpack.Decoder(Step)
_OTHERS = msgspec.msgpack.Decoder(
    Definition | ValueRecord | MovedRecord | PhaseRecord | FindingRecord | FooterRecord | HeaderRecord
)


def decode(payload: bytes) -> Record:
    """The record in *payload*; WrongRecordError if it is none."""
    try:
        return _STEPS.decode(payload) if payload[0] == STEP_BYTE else _OTHERS.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        msg = f"this is no record of a log: {error}"
        raise WrongRecordError(msg) from None


def decode_header(payload: bytes) -> Header:
    """The header in the first *payload* of a log; WrongRecordError if it is not a header, or contradicts itself."""
    record = decode(payload)
    if not isinstance(record, HeaderRecord):
        msg = f"it is a {type(record).__name__}"
        raise WrongRecordError(msg)
    if not 0 <= record.header.seed < 1 << 64:
        msg = f"the seed is {record.header.seed}"
        raise WrongRecordError(msg)
    for code in record.header.code:
        if code.text and hash_of(code.text) != code.sha256:
            msg = f"the text of {code.name} has another SHA-256 than it says"
            raise WrongRecordError(msg)
    of_scenario = record.header.scenario_code
    if of_scenario is not None and of_scenario.name != record.header.scenario:
        msg = f"the scenario is {record.header.scenario}, and its code is called {of_scenario.name}"
        raise WrongRecordError(msg)
    return record.header


def hash_of(text: str) -> str:
    """The SHA-256 that identifies a file, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


# -- consistency with earlier records ---------------------------------------------------------------------------------


@attrs.define
class Names:
    """The definitions of the records so far: turns the numbers in steps back into names."""

    lanes: list[LaneRecord] = attrs.field(factory=list)
    sets: list[tuple[int, ...]] = attrs.field(factory=list)
    functions: list[str] = attrs.field(factory=list)
    operations: list[tuple[str, str]] = attrs.field(factory=list)
    owners: list[str] = attrs.field(factory=lambda: [""])

    def learn(self, record: Record) -> None:
        """Check a record and keep its definition; WrongRecordError if it uses a number that is not defined yet."""
        match record:
            case Step():
                self._check_step(record)
            case LaneRecord():
                _define(self.lanes, record.number, record, "lane")
            case SetRecord():
                self._check_lanes(*record.lanes)
                if not 0 < len(set(record.lanes)) == len(record.lanes):
                    msg = f"set {record.number} has no lanes, or one of them twice"
                    raise WrongRecordError(msg)
                _define(self.sets, record.number, record.lanes, "set")
            case FunctionRecord():
                _define(self.functions, record.number, record.name, "function")
            case OperationRecord():
                _define(self.operations, record.number, (record.name, record.access), "operation")
            case OwnerRecord():
                _define(self.owners, record.number, record.label, "owner")
            case MovedRecord():
                self._check_lanes(record.lane)
                self.lanes[record.lane] = msgspec.structs.replace(self.lanes[record.lane], cpu=record.cpu)
            case ValueRecord() if record.value >= record.count:
                msg = f"the value chosen is {record.value} of {record.count}"
                raise WrongRecordError(msg)

    def _check_step(self, step: Step) -> None:
        for what, number, known in (
            ("set", step.enabled_set, self.sets),
            ("function", step.function, self.functions),
            ("operation", step.operation, self.operations),
            ("owner", step.owner, self.owners),
        ):
            if number >= len(known):
                raise WrongRecordError(_undefined(what, number))
        lanes = len(self.sets[step.enabled_set])
        if step.index >= lanes:
            msg = f"the step's choice is {step.index}, and {lanes} lanes could step"
            raise WrongRecordError(msg)

    def _check_lanes(self, *numbers: int) -> None:
        for number in numbers:
            if number >= len(self.lanes):
                raise WrongRecordError(_undefined("lane", number))

    def enabled(self, step: Step) -> tuple[str, ...]:
        """The names of the lanes that were enabled at *step*."""
        return tuple(self.lanes[number].name for number in self.sets[step.enabled_set])

    def lane(self, step: Step) -> LaneRecord:
        """The lane that stepped."""
        return self.lanes[self.sets[step.enabled_set][step.index]]


def _undefined(what: str, number: int) -> str:
    return f"{what} {number} is used before it is defined"


def _define(known: list[Any], number: int, value: object, what: str) -> None:
    """Keep a definition; numbers count up in the order of first use."""
    if number != len(known):
        msg = f"{what} {number} is defined where {what} {len(known)} should be"
        raise WrongRecordError(msg)
    if what == "function" and value in known:
        msg = f"{what} {value} is defined a second time"
        raise WrongRecordError(msg)
    known.append(value)


class Digest(Protocol):
    """The interface of hashlib's objects."""

    def update(self, data: bytes, /) -> None:
        """Add *data*."""

    def hexdigest(self) -> str:
        """The hash of all data so far."""


def new_digest() -> Digest:
    """The empty hash of the payloads between header and footer."""
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


@attrs.define
class Contents:
    """A summary of all records so far, with which the footer must agree."""

    names: Names = attrs.field(factory=Names)
    steps: int = 0
    signatures: set[str] = attrs.field(factory=set)
    is_over: bool = False
    _hash: Digest = attrs.field(factory=new_digest)

    def take(self, payload: bytes, record: Record) -> None:
        """Add the next record before the footer; WrongRecordError if it is invalid here."""
        if isinstance(record, HeaderRecord):
            msg = "a second header"
            raise WrongRecordError(msg)
        self.names.learn(record)
        if isinstance(record, Step):
            if self.is_over:
                msg = "a step comes after the finding that ended the run"
                raise WrongRecordError(msg)
            self.steps += 1
        elif isinstance(record, FindingRecord):
            self._take_finding(record.finding)
        self._hash.update(payload)

    def _take_finding(self, finding: Finding) -> None:
        if finding.kind not in ORACLES:
            msg = f"a finding of the kind {finding.kind}, and there is no such oracle"
            raise WrongRecordError(msg)
        if finding.step != max(self.steps - 1, 0) or finding.signature in self.signatures:
            msg = f"{finding.signature} claims step {finding.step}, but follows {self.steps} steps, or is a repetition"
            raise WrongRecordError(msg)
        self.signatures.add(finding.signature)
        self.is_over = self.is_over or finding.is_fatal

    def digest(self) -> str:
        """The digest of all records so far, in hexadecimal."""
        return self._hash.hexdigest()

    def check(self, footer: Footer, shows: str = "") -> None:
        """WrongRecordError if *footer* does not match this run, or if the finding of *shows* is missing."""
        if shows and shows not in self.signatures:
            msg = f"the header says that the run shows {shows}, and it does not"
            raise WrongRecordError(msg)
        outcome = "finding" if self.signatures else "ok"
        for what, said, is_so in (
            ("steps", footer.steps, self.steps),
            ("outcome", footer.outcome, "interrupted" if footer.outcome == "interrupted" else outcome),
            ("digest", footer.digest, self.digest()),
        ):
            if said != is_so:
                msg = f"the footer does not fit the records: it says {what} {said}, they come to {is_so}"
                raise WrongRecordError(msg)
