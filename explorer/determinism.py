"""Whether a schedule, run twice, is the same record by record: what everything else here rests on."""

from __future__ import annotations

from explorer.replay import THE_END, Divergence, in_words
from protocol.errors import NoAnswerError
from protocol.records import DEFINITIONS, STEP_BYTE, Names, decode

CAUSES = (
    "a scenario, a patch or slabrace itself depends on something that is not in the schedule: the order of a set, a "
    "clock, a random number, state that outlives its world"
)


class NotTheSameError(NoAnswerError):
    """A schedule that was run again was not the same; `divergence` says where."""

    exit_code = 4

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(
            f"not deterministic: a schedule that was run again parts at step {divergence.step}; "
            f"then: {divergence.then}; now: {divergence.now}; {CAUSES}"
        )
        self.divergence = divergence


def first_divergence(then: list[bytes], now: list[bytes]) -> Divergence | None:
    """The step of the first difference between the records of two runs, with what happened in each; None if none is."""
    for at, (one, other) in enumerate(zip(then, now, strict=False)):
        if one != other:
            return divergence_at(then, now, at)
    return None if len(then) == len(now) else divergence_at(then, now, min(len(then), len(now)))


def divergence_at(then: list[bytes], now: list[bytes], at: int) -> Divergence:
    """Two runs whose records are the same up to number *at*."""
    steps = sum(payload[0] == STEP_BYTE for payload in then[:at])
    return Divergence(steps, words_at(then, at), words_at(now, at))


def words_at(payloads: list[bytes], at: int) -> str:
    """What record number *at* says; if it only defines names, the step that needs them."""
    names = Names()
    for payload in payloads[:at]:
        names.learn(decode(payload))
    for payload in payloads[at:]:
        record = decode(payload)
        names.learn(record)
        if not isinstance(record, DEFINITIONS):
            return in_words(names, record)
    return THE_END
