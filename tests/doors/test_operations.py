"""`slabrace list operations`: the operations of each kind of object, from its declarations."""

from __future__ import annotations

import json

import pytest

from actors.linux.mm.kmem_cache import KmemCache
from protocol.operations import OperationInfo
from tests.doors.conftest import Command


@pytest.mark.parametrize("text", ["KmemCache", "kmemcache", "kmem_cache", "kmem-cache"])
def test_the_operations_of_an_object_are_those_that_are_declared(slabrace: Command, text: str) -> None:
    code, out, _ = slabrace("list", "operations", text, "--json")
    entries = {entry["name"]: entry for entry in json.loads(out)}
    declared = {
        f"KmemCache.{name}": method.operation
        for name, method in vars(KmemCache).items()
        if isinstance(getattr(method, "operation", None), OperationInfo)
    }

    assert code == 0
    assert entries.keys() == declared.keys()
    assert len(entries) > 10
    for name, info in declared.items():
        assert entries[name]["access"] == info.access.name.lower()
        assert entries[name]["part"] == info.part
        assert entries[name]["cost"] == info.cost


@pytest.mark.parametrize("name", ["memcg", "css", "slab", "cgroup", "mutex", "page_counter", "work"])
def test_what_an_engineer_asks_for_is_there(slabrace: Command, name: str) -> None:
    code, out, err = slabrace("list", "operations", name)

    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["of", "operation", "access", "part", "may", "ns", "summary"]
    assert len(out.splitlines()) > 1


def test_a_lock_may_wait_and_sleep(slabrace: Command) -> None:
    entries = {entry["name"]: entry for entry in json.loads(slabrace("list", "operations", "mutex", "--json")[1])}
    lock = entries["Mutex.lock"]

    assert (lock["may_wait"], lock["may_sleep"], lock["access"]) == (True, True, "update")


def test_all_objects_are_listed_and_an_unknown_one_is_one_line(slabrace: Command) -> None:
    every = json.loads(slabrace("list", "operations", "--json")[1])
    code, out, err = slabrace("list", "operations", "memgc")

    assert len({entry["object"] for entry in every}) > 40
    assert len({entry["name"] for entry in every}) == len(every)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("slabrace: list operations memgc: there is no such kind of object; do you mean 'Memcg'?")


def test_only_operations_take_an_object(slabrace: Command) -> None:
    code, _, err = slabrace("list", "kernels", "css")

    assert (code, err) == (2, "slabrace: list kernels css: only list operations takes an OBJECT\n")
