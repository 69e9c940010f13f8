"""Determinism check: the same schedule, run twice, has to give the same records. Everything else relies on this."""

from __future__ import annotations

from explorer.replay import THE_END, Divergence, in_words
from protocol.errors import NoAnswerError
from protocol.records import DEFINITIONS, STEP_BYTE, Names, decode

CAUSES = (
    "a scenario, a patch or slabrace itself depends on something that is not in the schedule: the order of a set, a "
    "clock, a random number, state that outlives its world"
)


class NotTheSameError(NoAnswerError):
    """A schedule gave other records when it was run again; `divergence` is the first difference."""

    exit_code = 4

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(
            f"not deterministic: a schedule that was run again diverges at step {divergence.step}; "
            f"then: {divergence.then}; now: {divergence.now}; {CAUSES}"
        )
        self.divergence = divergence


def first_divergence(then: list[bytes], now: list[bytes]) -> Divergence | None:
    """The first difference between the records of two runs, with its step; None if the records are equal."""
    for at, (one, other) in enumerate(zip(then, now, strict=False)):
        if one != other:
            return divergence_at(then, now, at)
    return None if len(then) == len(now) else divergence_at(then, now, min(len(then), len(now)))


def divergence_at(then: list[bytes], now: list[bytes], at: int) -> Divergence:
    """The divergence of two runs whose first *at* records are the same."""
    steps = sum(payload[0] == STEP_BYTE for payload in then[:at])
    return Divergence(steps, words_at(then, at), words_at(now, at))


def words_at(payloads: list[bytes], at: int) -> str:
    """Record number *at* in words; if it only defines names, the next step, which uses them."""
    names = Names()
    for payload in payloads[:at]:
        names.learn(decode(payload))
    for payload in payloads[at:]:
        record = decode(payload)
        names.learn(record)
        if not isinstance(record, DEFINITIONS):
            return in_words(names, record)
    return THE_END
