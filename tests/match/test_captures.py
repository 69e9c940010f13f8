"""The six captures match on their own kernel; captures of a removal match on no other; changes in them are noticed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.vocabulary import PROFILES
from tests.match.traces import (
    CAPTURES,
    REMOVALS,
    STORIES,
    Capture,
    cut,
    entry_lines,
    flow_of,
    function_of,
    match,
    swap,
)

each_capture = pytest.mark.parametrize("capture", CAPTURES, ids=str)
ROOTS = 3
"""One run of each scenario; the slow tests search longer."""

same_examples = settings(derandomize=True, deadline=None, database=None, max_examples=40)


@each_capture
def test_a_capture_matches_on_its_own_kernel(capture: Capture) -> None:
    found = match(capture.text(), capture.kernel, *STORIES.values())

    assert found.is_match, found.best.divergence
    assert found.best.subject.options.scenario == capture.scenario
    assert found.best.matched == len(entry_lines(capture.text()))


@each_capture
def test_a_capture_matches_without_a_deviation(capture: Capture) -> None:
    """The preferences are right; with wrong ones the search would need deviations."""
    assert match(capture.text(), capture.kernel, capture.scenario, budget=1).is_match


def other_kernels() -> list[tuple[Capture, str]]:
    return [(capture, kernel) for capture in REMOVALS for kernel in PROFILES if kernel != capture.kernel]


@pytest.mark.parametrize(("capture", "kernel"), other_kernels(), ids=str)
def test_a_removal_matches_on_no_other_kernel(capture: Capture, kernel: str) -> None:
    found = match(capture.text(), kernel, *STORIES.values(), budget=ROOTS)

    assert not found.is_match
    divergence = found.best.divergence
    assert divergence is not None
    assert divergence.last is not None
    assert divergence.trace
    assert divergence.obstacle


@pytest.mark.slow
@pytest.mark.parametrize(("capture", "kernel"), other_kernels()[::3], ids=str)
def test_a_removal_matches_on_no_other_kernel_however_long_one_searches(capture: Capture, kernel: str) -> None:
    assert not match(capture.text(), kernel, capture.scenario, budget=200).is_match


PARTINGS = {
    ("5.2.1", "5.3"): (22, "si/0 enters percpu_ref_exit() where the trace has percpu_ref_switch_to_atomic_rcu()"),
    ("5.3.1", "original"): (22, "si/0 enters percpu_ref_switch_to_atomic_rcu() where the trace has percpu_ref_exit()"),
    ("5.2.1", "v7"): (31, "v7 has no slab_deactivate_memcg_cache_rcu_sched(); there is one in original"),
    ("5.3.1", "5.4-fixed"): (35, "enters memcg_drain_all_list_lrus() where the trace has memcg_flush_percpu_vmstats()"),
    ("5.3.1", "v4"): (18, "one waits for stage to leave a read-side section"),
}
"""The first divergence and its reason, which distinguishes these kernels."""


@pytest.mark.parametrize(("version", "kernel"), PARTINGS)
@pytest.mark.parametrize("story", ["rmdir-idle", "rmdir-held"])
def test_the_answer_says_where_trace_and_kernel_diverge(version: str, kernel: str, story: str) -> None:
    line, obstacle = PARTINGS[version, kernel]
    divergence = match(Capture(version, story).text(), kernel, STORIES[story], budget=2).best.divergence

    assert divergence is not None
    assert divergence.trace[0].line == line
    assert obstacle in divergence.obstacle


def test_a_kernel_without_a_function_of_the_trace_is_a_proof() -> None:
    found = match(Capture("5.2.1", "rmdir-idle").text(), "v7", "traced-rmdir-idle")

    assert (found.is_match, found.is_proof) == (False, True)


# -- changed captures -------------------------------------------------------------------------------------------------


@st.composite
def cut_captures(draw: st.DrawFn) -> tuple[Capture, int]:
    capture = draw(st.sampled_from(CAPTURES))
    return capture, draw(st.sampled_from(entry_lines(capture.text())))


@same_examples
@given(cut_captures())
def test_a_line_that_is_cut_out_is_missed(case: tuple[Capture, int]) -> None:
    capture, index = case

    assert not match(cut(capture.text(), index), capture.kernel, capture.scenario, budget=2).is_match


@pytest.mark.slow
@each_capture
def test_every_line_that_is_cut_out_is_missed(capture: Capture) -> None:
    for index in entry_lines(capture.text()):
        found = match(cut(capture.text(), index), capture.kernel, capture.scenario, budget=8)

        assert not found.is_match, capture.text().splitlines()[index]


CAUSES = (
    ("css_killed_ref_fn", "css_killed_work_fn"),
    ("memcg_deactivate_kmem_caches", "kmemcg_rcufn"),
    ("memcg_deactivate_kmem_caches", "kmemcg_deactivate_rcufn"),
    ("__kmem_cache_shrink", "discard_slab"),
    ("css_release", "css_release_work_fn"),
    ("mem_cgroup_css_released", "css_free_rwork_fn"),
    ("shutdown_cache", "slab_kmem_cache_release"),
    ("mem_cgroup_css_online", "memcg_kmem_cache_create_func"),
    ("shmem_destroy_inode", "shmem_free_in_core_inode"),
)
"""Pairs of functions: the first one, in one flow, causes the second one in another flow."""


def dependent_pairs(text: str) -> list[tuple[int, int]]:
    """Pairs of lines with a fixed order: neighbours in one flow, and a cause and its effect in two flows."""
    lines, indices = text.splitlines(), entry_lines(text)
    pairs, last = [], dict[str, int]()
    for index in indices:
        before = last.get(flow_of(lines[index]))
        if before is not None and function_of(lines[before]) != function_of(lines[index]):
            pairs.append((before, index))
        last[flow_of(lines[index])] = index
    first = {function_of(lines[index]): index for index in reversed(indices)}
    return pairs + [
        (first[cause], first[effect])
        for cause, effect in CAUSES
        if cause in first and effect in first and flow_of(lines[first[cause]]) != flow_of(lines[first[effect]])
    ]


@st.composite
def swapped_captures(draw: st.DrawFn) -> tuple[Capture, tuple[int, int]]:
    capture = draw(st.sampled_from(CAPTURES))
    return capture, draw(st.sampled_from(dependent_pairs(capture.text())))


@same_examples
@given(swapped_captures())
def test_two_dependent_lines_that_are_swapped_are_noticed(case: tuple[Capture, tuple[int, int]]) -> None:
    capture, pair = case

    assert not match(swap(capture.text(), *pair), capture.kernel, capture.scenario, budget=2).is_match


@pytest.mark.slow
@each_capture
def test_all_dependent_lines_that_are_swapped_are_noticed(capture: Capture) -> None:
    for pair in dependent_pairs(capture.text()):
        found = match(swap(capture.text(), *pair), capture.kernel, capture.scenario, budget=8)

        assert not found.is_match, [capture.text().splitlines()[index] for index in pair]


@each_capture
def test_every_capture_has_lines_whose_order_matters_between_flows(capture: Capture) -> None:
    lines = capture.text().splitlines()

    assert any(flow_of(lines[first]) != flow_of(lines[second]) for first, second in dependent_pairs(capture.text()))


def test_independent_lines_may_be_swapped() -> None:
    """The two CPUs do not interact at that moment, so the other order is a schedule as well."""
    capture = Capture("5.3.1", "rmdir-idle")
    lines = capture.text().splitlines()
    first = next(i for i, line in enumerate(lines) if "css_free_rwork_fn" in line and "4.166455" in line)
    assert flow_of(lines[first]) != flow_of(lines[first - 1])

    assert match(swap(capture.text(), first - 1, first), capture.kernel, capture.scenario, budget=60).is_match
