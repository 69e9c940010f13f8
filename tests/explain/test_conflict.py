"""The pair of steps that causes a finding, and the other parts of an explanation."""

from __future__ import annotations

from explorer.explain import Explanation
from explorer.explain.conflict import find_conflicts
from explorer.schedule import Follow
from explorer.trace import run_traced
from tests.explain.stages import (
    BEHIND_THE_GATE,
    FREED_TOO_EARLY,
    experiment,
    explain,
    free_against_use,
    meets_behind_a_gate,
    needs_no_race,
    signature_of,
    wakes_up,
)


def test_the_conflict_is_between_the_free_and_the_use(explanation: Explanation) -> None:
    conflict, steps = explanation.conflict, explanation.trace.steps

    assert conflict is not None
    first, second = steps[conflict.first], steps[conflict.second]
    assert (first.lane, first.function, first.operation) == ("freer", "box_free", "write")
    assert (second.lane, second.function, second.operation) == ("user", "box_use", "read")
    assert conflict.second == len(steps) - 1
    assert conflict.thing == "box"
    assert conflict.how == ("changes", "reads")


def test_the_other_order_of_the_pair_shows_nothing(explanation: Explanation) -> None:
    conflict = explanation.conflict

    assert conflict is not None
    assert not conflict.others
    assert not conflict.swapped.stage.world.findings
    lanes = [step.lane for step in conflict.swapped.steps if step.owner == "box"]
    assert lanes == ["user", "user", "freer"]


def test_the_pair_comes_first_whose_other_order_leaves_most_of_the_run_as_it_was() -> None:
    """With the gate closed the looker does not reach the check: this hides the finding too, but is not its cause."""
    found = explain(meets_behind_a_gate, BEHIND_THE_GATE).conflicts.found

    assert [conflict.thing for conflict in found] == ["box", "gate"]
    assert found[0].change < found[1].change


def test_the_bystander_is_not_reported(explanation: Explanation) -> None:
    steps = explanation.trace.steps

    assert any(step.lane == "bystander" for step in steps)
    assert all(steps[place].lane != "bystander" for place in explanation.important)


def test_the_flaw_is_reproduced_ten_times_on_both_drivers(explanation: Explanation) -> None:
    assert explanation.runs == 10
    assert explanation.reproduced == {"trio": 5, "stepper": 5}


def test_the_first_difference_is_at_the_pair(explanation: Explanation) -> None:
    conflict, difference = explanation.conflict, explanation.difference

    assert conflict is not None
    assert difference is not None
    assert difference.at == conflict.first
    assert difference.here is not None
    assert difference.here.lane == "freer"
    assert difference.there is not None
    assert difference.there.lane == "user"


def test_the_free_is_noted_at_its_step(explanation: Explanation) -> None:
    conflict = explanation.conflict

    assert conflict is not None
    assert any(note.startswith("freed by box_free() in freer") for note in explanation.notes[conflict.first])


def test_deviations_from_the_plain_order_say_whom_they_ran_ahead_of(explanation: Explanation) -> None:
    ahead = {
        (step.lane, detail.plain)
        for step, detail, deviates in zip(
            explanation.trace.steps, explanation.details, explanation.deviates, strict=True
        )
        if deviates
    }

    assert ("freer", "bystander") in ahead
    assert all(lane != plain for lane, plain in ahead)


def test_a_flaw_without_a_race_is_said_to_need_none() -> None:
    found = explain(needs_no_race)

    assert found.conflict is None
    assert found.plain_shows_it
    assert found.difference is None


def test_a_wake_up_and_a_counter_are_seen() -> None:
    found = explain(wakes_up)
    steps = zip(found.trace.steps, found.details, strict=True)
    write = next(detail for step, detail in steps if step.lane == "filler" and step.operation == "write")

    assert write.woken == {"waiter": "wakes"}
    assert write.counts == {"box": ("references", 2)}
    assert found.before == {"box": ("references", 0)}


def test_the_number_of_runs_is_bounded() -> None:
    toy = experiment(free_against_use)
    trace = run_traced(toy, Follow(FREED_TOO_EARLY), signature_of(toy, FREED_TOO_EARLY))
    none = find_conflicts(toy, trace, controls_clock=False, budget=0)

    assert (none.found, none.runs, none.is_cut_off) == ((), 0, True)
