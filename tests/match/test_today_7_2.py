"""The captures of Linux 7.2: their functions, and what of them the model has."""

from __future__ import annotations

import pytest

from actors.versions.kernel_fn import FunctionTable
from explorer.match.scope import CAPTURED_7_2, OUT_OF_SCOPE, make_scope
from explorer.match.search import SearchResult, search
from protocol.formats.ftrace import FunctionTrace, parse_ftrace
from protocol.vocabulary import KERNELS
from scenarios import find_scenario
from tests.match.traces import DATA, cut, entry_lines, subject

KERNEL = "7.2"
STORIES = ("create", "rmdir-idle", "rmdir-held", "rmdir-page", "rmdir-late", "cache-destroy", "rmdir-idle-charges")


def trace_of(story: str) -> FunctionTrace:
    path = f"ftrace-linux-7.2-{story}.txt"
    return parse_ftrace((DATA / path).read_bytes(), source=path)


def shown_in(*stories: str) -> set[str]:
    """The functions in these captures that are not called for everybody."""
    skipped = {name for group in OUT_OF_SCOPE for name in group.functions}
    return {line.function for story in stories for line in trace_of(story).lines if line.function} - skipped


def test_the_filters_are_what_the_captures_show() -> None:
    """By their names alone: the model need not have a function that a filter names."""
    others = shown_in(*STORIES[:-1])

    assert others == CAPTURED_7_2["lifecycle"]
    assert shown_in("rmdir-idle-charges") - others == CAPTURED_7_2["charges"]


def test_no_function_that_the_compiler_has_inlined_is_expected() -> None:
    """KERNEL-7.2 N12.5: the model has these functions, the captures have not."""
    inlined = {
        "lock_list_lru_of_memcg",
        "lock_list_lru",
        "memcg_offline_kmem",
        "memcg_reparent_list_lru_one",
        "memcg_reparent_objcgs",
        "obj_cgroup_alloc",
    }
    for story in STORIES:
        scope = make_scope(FunctionTable(KERNEL, "slub"), trace_of(story))
        assert not inlined & scope.shown.keys()
        assert inlined <= scope.names


def test_a_part_that_the_compiler_has_split_off_is_the_function() -> None:
    """mem_cgroup_css_offline() calls drain_all_stock.part.0()."""
    text = (DATA / "ftrace-linux-7.2-rmdir-idle.txt").read_text(encoding="utf-8")
    (line,) = (line for line in trace_of("rmdir-idle").lines if line.function == "drain_all_stock")

    assert "drain_all_stock.part.0 <-mem_cgroup_css_offline" in text
    assert line.caller == "mem_cgroup_css_offline"


@pytest.mark.parametrize("story", STORIES)
def test_lists_and_shrinkers_are_compared(story: str) -> None:
    """These are in the model already."""
    mine = {"__free_shrinker_info", "__memcg_list_lru_alloc", "memcg_list_lru_alloc", "memcg_reparent_list_lrus"}
    scope = make_scope(FunctionTable(KERNEL, "slub"), trace_of(story))

    assert mine <= scope.shown.keys()
    assert ("list_lru_add_obj" in scope.shown) == ("list_lru_add" in scope.shown) == (story == "rmdir-idle-charges")


MATCHED = {
    "create": ("traced-create", ("__d_free", "i_callback")),
    "rmdir-idle": ("traced-rmdir-idle", ()),
    "rmdir-held": ("traced-rmdir-held", ()),
    "rmdir-page": ("traced-rmdir-page", ()),
    "rmdir-late": ("traced-rmdir-late", ("i_callback",)),
    "cache-destroy": ("traced-cache-destroy", ("__d_free",)),
}
"""The captures that the model does so far, with the scenario and the functions that are ignored, as on 6.12."""


def find(text: str, story: str, kernel: str = KERNEL) -> SearchResult:
    scenario, ignored = MATCHED[story]
    return search([subject(text, kernel, scenario, ignored=ignored)], budget=3)


@pytest.mark.parametrize("story", MATCHED)
def test_a_capture_of_7_2_matches_without_a_deviation(story: str) -> None:
    text = (DATA / f"ftrace-linux-7.2-{story}.txt").read_text(encoding="utf-8")
    found = find(text, story)

    assert found.is_match, found.best.divergence


@pytest.mark.parametrize("story", MATCHED)
def test_a_line_that_is_cut_out_is_missed(story: str) -> None:
    """Each fifth of the lines that are compared."""
    text = (DATA / f"ftrace-linux-7.2-{story}.txt").read_text(encoding="utf-8")
    scenario, ignored = MATCHED[story]
    lines = {event.line for event in subject(text, KERNEL, scenario, ignored=ignored).events}
    for index in [index for index in entry_lines(text) if index + 1 in lines][::5]:
        assert not find(cut(text, index), story).is_match, text.splitlines()[index]


@pytest.mark.parametrize(
    ("kernel", "story"),
    [
        (kernel, story)
        for story, (scenario, _) in MATCHED.items()
        for kernel in ("5.3", "6.12")
        if kernel in (find_scenario(scenario).kernels or KERNELS)
    ],
)
def test_a_capture_of_7_2_matches_on_no_kernel_before(kernel: str, story: str) -> None:
    text = (DATA / f"ftrace-linux-7.2-{story}.txt").read_text(encoding="utf-8")

    assert not find(text, story, kernel).is_match
