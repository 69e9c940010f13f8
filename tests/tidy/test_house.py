"""A kernel function stands where its C file says, and a prototype has a body.

Functions that write a file for user space are the exception: they stand in actors/files/, by that file.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

from actors import api
from actors.kernel import MODULES
from actors.linux.kernel.rcu import tree
from actors.linux.lib import lockref, percpu_refcount
from actors.linux.mm import slab
from actors.versions.kernel_fn import Body, KernelFn, functions
from tests.tidy.sources import ROOT, modules

WITH_A_HEADER = {
    "include/linux/cgroup.h": "kernel/cgroup/cgroup",
    "include/linux/dcache.h": "fs/dcache",
    "include/linux/memcontrol.h": "mm/memcontrol",
    "include/linux/mm.h": "mm/filemap",
    "include/linux/mm_inline.h": "mm/swap",
    "include/linux/percpu-refcount.h": "lib/percpu_refcount",
    "include/linux/shrinker.h": "mm/shrinker",
    "mm/slab.h": "mm/slab_h",
    "include/linux/rcupdate.h": "mm/kvfree_rcu",
}
"""Inline functions of a header stand with the C file they belong to."""

ELSEWHERE = {
    ("mm/slub.c", "mm/slub_sysfs"): "the half of mm/slub.c that is about /sys/kernel/slab",
    ("lib/kobject.c", "mm/slub_sysfs"): "the only kobjects of the model are those of caches",
    ("fs/kernfs/file.c", "mm/slub_sysfs"): "kernfs_seq_show() calls the file's function, of which there is one",
    ("mm/memcontrol.c", "mm/vmstat"): "statistics of memcgs beside those of nodes",
    ("kernel/rcu/update.c", "kernel/rcu/tree"): "one callback of synchronize_rcu()",
    ("kernel/rcu/tree.c", "mm/kvfree_rcu"): "kfree_rcu(), which needs work queues, and these need RCU",
    ("mm/slab_common.c", "mm/kvfree_rcu"): "kfree_rcu() of 7.2, which has moved there",
    ("mm/slub.c", "mm/kvfree_rcu"): "the flush of all rcu sheaves, a part of its barrier",
    ("mm/slub.c", "mm/sheaves"): "SLUB of 7.2 without CPU slabs",
    ("mm/memcontrol.c", "mm/obj_cgroup"): "obj_cgroups, which a memcg is made without",
    ("include/linux/memcontrol.h", "mm/obj_cgroup"): "their inline functions",
    ("mm/memcontrol.c", "mm/memcg_memory"): "the memory of a memcg itself, which is charged by obj_cgroups",
    ("mm/memcontrol.c", "mm/memcg_folio"): "folios from 6.12 on, which no other part of mm/memcontrol.c calls",
    ("include/linux/memcontrol.h", "mm/memcg_folio"): "the inline functions of a folio and of its lruvec's lock",
    ("mm/slub.c", "mm/obj_cgroup"): "SLUB's hooks, which charge an object to its obj_cgroup",
}
"""Functions that do not stand at their path, each with the reason."""


def homes(file: str) -> set[str]:
    """The modules below actors/linux/ in which a function of a C file may stand."""
    path = Path(file).with_suffix("")
    name = str(path).replace("-", "_")
    return {WITH_A_HEADER.get(file, name), str(path.parent), *(here for c_file, here in ELSEWHERE if c_file == file)}


def home(body: Body) -> str:
    """The module of a body, as a path from the root of the repository without its suffix."""
    return str(Path(body.code.__code__.co_filename).relative_to(ROOT).with_suffix(""))


def test_every_kernel_function_stands_where_its_c_file_says() -> None:
    bodies = [body for function in functions().values() for body in function.bodies]
    wrong = [
        f"{home(body)}.py declares {body.name}(), which belongs into {' or '.join(sorted(homes(body.file)))}"
        for body in bodies
        if not home(body).startswith("actors/files/")
        and home(body).removeprefix("actors/linux/") not in homes(body.file)
    ]

    assert not wrong, "\n".join(wrong)


def test_no_exception_is_left_that_nothing_needs() -> None:
    used = {(body.file, home(body).removeprefix("actors/linux/")) for f in functions().values() for body in f.bodies}

    assert set(ELSEWHERE) <= used
    assert set(WITH_A_HEADER.items()) <= used


def test_a_folder_module_is_the_only_one_of_its_folder() -> None:
    """fs/ext4.py stands for fs/ext4/: there must be no second place for a function of it."""
    for module in modules("actors/linux"):
        if module.path.name != "__init__.py":
            assert not module.path.with_suffix("").is_dir(), module.name


Function = ast.FunctionDef | ast.AsyncFunctionDef


def prototypes() -> list[tuple[str, Function]]:
    """Every `@extern`, with its module."""
    return [
        (module.name, node)
        for module in modules("actors/linux")
        for node in module.tree.body
        if isinstance(node, Function) and any(getattr(each, "id", "") == "extern" for each in node.decorator_list)
    ]


def definitions(function: KernelFn[..., object]) -> list[Function]:
    """The bodies of a function as they are written."""
    found = []
    for body in function.bodies:
        tree = ast.parse(Path(body.code.__code__.co_filename).read_text(encoding="utf-8"))
        line = body.code.__code__.co_firstlineno
        found += [
            node
            for node in ast.walk(tree)
            if isinstance(node, Function)
            and node.decorator_list
            and line in range(node.decorator_list[0].lineno, node.lineno + 1)
        ]
    return found


@pytest.mark.parametrize(("module", "prototype"), [pytest.param(*each, id=each[1].name) for each in prototypes()])
def test_a_prototype_has_bodies_that_take_and_return_the_same(module: str, prototype: Function) -> None:
    """An `async def` for a `def` would hide, or invent, preemption points."""
    defined = definitions(functions()[prototype.name])

    assert defined, f"{module} declares {prototype.name}(), and nothing defines it"
    for each in defined:
        assert type(each) is type(prototype), prototype.name
        assert ast.unparse(each.args) == ast.unparse(prototype.args)
        assert ast.unparse(each.returns or each) == ast.unparse(prototype.returns or prototype)


def test_a_prototype_is_declared_once() -> None:
    names = [node.name for _, node in prototypes()]

    assert len(names) == len(set(names)) > 20


def test_names_of_the_old_address_are_those_of_today() -> None:
    """Patches that were written for actors.kernel of 0.2 still run."""
    old = import_module("actors.kernel.rcu")

    assert old.call_rcu is tree.call_rcu
    assert import_module("actors.kernel.patching").kernel_fn is api.kernel_fn  # there is a module of that name, too
    assert import_module("actors.kernel.percpu_ref").DEAD == percpu_refcount.DEAD != lockref.DEAD
    assert import_module("actors.kernel.slab_reap").reap_one is slab.reap_one
    for name in MODULES:
        import_module(f"actors.kernel.{name}")
    with pytest.raises(AttributeError, match="nonsense"):
        _ = old.nonsense
    with pytest.raises(ImportError, match="no_such_module"):
        import_module("actors.kernel.no_such_module")
