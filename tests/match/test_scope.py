"""The compared functions: the data is checked against the captures and the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.versions.kernel_fn import FunctionTable, functions
from explorer.match.scope import CAPTURED, INLINED, MARKS, OUT_OF_SCOPE, Scope, make_scope, names_of
from protocol.formats.ftrace import FunctionTrace, parse_ftrace
from protocol.vocabulary import PROFILES
from tests.match.traces import CAPTURES, HEAD, Capture

each_capture = pytest.mark.parametrize("capture", CAPTURES, ids=str)
DOCS = Path(__file__).parents[2] / "docs" / "match.md"


def trace_of(*functions: str) -> FunctionTrace:
    rows = [f"task-41 [001] .... 1.{number:06}: {name} <-caller" for number, name in enumerate(functions)]
    return parse_ftrace((HEAD + "\n".join(rows)).encode(), source="t.txt")


def scope_of(*functions: str, kernel: str = "5.3", traced: tuple[str, ...] | None = None) -> Scope:
    return make_scope(FunctionTable(kernel, "slub"), trace_of(*functions), traced=traced)


def shown_in(capture: Capture) -> set[str]:
    """The functions in a capture, by the names of the newest kernel that has each of them."""
    here = names_of(FunctionTable(capture.kernel, "slub"))
    trace = parse_ftrace(capture.path.read_bytes(), source=str(capture))
    return {here[line.function].name for line in trace.lines if line.function}


def test_the_captured_filters_are_what_the_captures_show() -> None:
    shown = {
        "creation": set.union(*(shown_in(capture) for capture in CAPTURES if capture.story == "create")),
        "removal": set.union(*(shown_in(capture) for capture in CAPTURES if capture.story != "create")),
    }

    assert shown == {name: set(functions) for name, functions in CAPTURED.items()}


@pytest.mark.parametrize("version", ["5.2.1", "5.3.1"])
def test_inlined_functions_are_those_that_one_kernel_s_captures_lack(version: str) -> None:
    mine = [capture for capture in CAPTURES if capture.version == version]
    here = names_of(FunctionTable(mine[0].kernel, "slub"))
    captured = {name for functions in CAPTURED.values() for name in functions}
    lacking = {
        function.name
        for function in here.values()
        if function.name in captured and not any(function.name in shown_in(capture) for capture in mine)
    }

    assert lacking == {name for name, profiles in INLINED.items() if mine[0].kernel in profiles}


@each_capture
def test_every_function_of_a_capture_but_the_marks_is_compared(capture: Capture) -> None:
    trace = parse_ftrace(capture.path.read_bytes(), source=str(capture))
    scope = make_scope(FunctionTable(capture.kernel, "slub"), trace)

    assert {skipped.function for skipped in scope.skipped} <= {MARKS}
    assert all(scope.compares(line) for line in trace.lines if line.function)


def test_groups_out_of_scope_have_reasons_and_nothing_twice() -> None:
    functions = [name for group in OUT_OF_SCOPE for name in group.functions]

    assert len(functions) == len(set(functions))
    assert all(len(group.reason) > 20 for group in OUT_OF_SCOPE)
    assert not {name for functions in CAPTURED.values() for name in functions} & set(functions)


def test_the_docs_name_every_group_and_function_out_of_scope() -> None:
    text = DOCS.read_text(encoding="utf-8")
    missing = [
        name for group in OUT_OF_SCOPE for name in (group.name, group.reason, *group.functions) if name not in text
    ]

    assert not missing


def test_a_function_out_of_scope_is_skipped_with_its_reason() -> None:
    scope = scope_of("cgroup_rmdir", "kmem_cache_alloc", "kmem_cache_alloc", "schedule")

    assert [(s.function, s.count, s.reason.partition(":")[0]) for s in scope.skipped] == [
        ("kmem_cache_alloc", 2, "everybody's"),
        ("schedule", 1, "the model does not have it"),
    ]


def test_one_function_of_a_captured_filter_stands_for_the_whole() -> None:
    assert {function.name for function in scope_of("kill_css").shown.values()} == {
        name for name in CAPTURED["removal"] if FunctionTable("5.3", "slub").bodies(functions()[name])
    }
    assert "kill_css" not in scope_of("create_cache").shown


def test_what_the_trace_shows_is_compared_beside_the_filters() -> None:
    assert "try_charge" in scope_of("kill_css", "try_charge").shown
    assert "try_charge" not in scope_of("kill_css").shown


def test_a_given_filter_is_all_that_is_shown() -> None:
    scope = scope_of("kill_css", traced=("kill_css", "css_release", "schedule"))

    assert set(scope.shown) == {"kill_css", "css_release"}


@pytest.mark.parametrize("kernel", PROFILES)
def test_a_function_goes_by_the_name_that_it_has_in_the_kernel(kernel: str) -> None:
    known_as = {"original": "kmemcg_deactivate_workfn"} | dict.fromkeys(
        ("v1", "v2", "v3", "v4", "v5"), "kmemcg_after_rcu_workfn"
    )
    scope = scope_of("kill_css", kernel=kernel)

    assert scope.shown[known_as.get(kernel, "kmemcg_workfn")] is functions()["kmemcg_workfn"]


def test_a_function_of_another_kernel_is_compared_and_not_skipped() -> None:
    scope = scope_of("kill_css", "kmemcg_deactivate_workfn")

    assert scope.foreign == {"kmemcg_deactivate_workfn": ("original",)}
    assert not scope.skipped


def test_the_helper_that_bears_a_functions_name_is_not_that_function() -> None:
    """[O] The model has two functions for memcg_deactivate_kmem_caches(); its entry is the outer one's."""
    assert (
        names_of(FunctionTable("original", "slub"))["memcg_deactivate_kmem_caches"].name
        == "memcg_deactivate_kmem_caches"
    )


def test_an_inlined_function_is_required_once_the_trace_shows_it() -> None:
    assert "memcg_link_cache" not in scope_of("create_cache", kernel="original").shown
    assert "memcg_link_cache" in scope_of("create_cache", "memcg_link_cache", kernel="original").shown
