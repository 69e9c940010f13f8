"""The tables of docs/kernel-map.md, made from the declarations of the kernel functions.

    python -m benchmarks.kernel_map            print them
    python -m benchmarks.kernel_map --write    put them into docs/kernel-map.md, between its markers

The changes between the versions of the series are listed here row by row, as in the changelogs of the postings. Each
row names the functions whose body in some version differs from the version before. A test compares the page with this
module, and each row with the function table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from actors.fixes import ALL_FIXES
from actors.versions.kernel_fn import Body, KernelFn, functions
from actors.versions.profiles import FIRST, declared_range
from protocol.atomic import write_file
from protocol.vocabulary import KERNELS, PROFILES, STEPS, TODAY

PAGE = Path(__file__).parents[1] / "docs" / "kernel-map.md"


@attrs.frozen
class Row:
    """One row of a table of changes: its title, the behaviour of the versions, and the functions of the model.

    `changes` are functions, each with the versions in which its body differs from the version before. A row without
    changes has no step of its own in the model; `what` gives the reason.
    """

    title: str
    what: str
    changes: tuple[tuple[str, tuple[str, ...]], ...] = ()


def row(title: str, what: str, *changes: str) -> Row:
    """A row; a change is written `function: version, version`."""
    parsed = tuple((name, tuple(versions.split(", "))) for name, _, versions in (c.partition(": ") for c in changes))
    return Row(title, what, parsed)


LATER_VERSIONS = ("v4", "v5", "v6", "v7", "5.3")
LATER = (
    row(
        "get_cache exit",
        "v4 takes rcu_read_lock() once more where it should unlock; v5 unlocks",
        "memcg_kmem_get_cache: v5",
    ),
    row(
        "dying sync",
        "v4, v5: a plain spinlock in the release and the flush, slab_mutex elsewhere; v6: an irq-safe lock everywhere, "
        "and creation tests dying under it; v7: creation does not test it",
        "kmemcg_cache_deactivate: v6",
        "kmemcg_cache_shutdown: v6",
        "flush_memcg_workqueue: v6",
        "memcg_create_kmem_cache: v6, v7",
    ),
    row(
        "shutdown after ref 0",
        "v4, v5: call_rcu(), then the work; v6: the work at once",
        "kmemcg_cache_shutdown: v6",
    ),
    row(
        "work_fn=NULL after fn + WARNs",
        "up to v7 the work stores to the cache when it is done, and two places warn; 5.3 has neither",
        "kmemcg_workfn: 5.3",
        "kmemcg_cache_deactivate: 5.3",
        "kmemcg_cache_shutdown: 5.3",
    ),
    row(
        "sysfs removal on deactivation",
        "v6: a cache that is empty after the shrink leaves sysfs then, not only at the shutdown",
        "__kmemcg_cache_deactivate_after_rcu: v6",
    ),
    row(
        "list_lru memcg lookup",
        "v4, v5: by page.mem_cgroup, which no slab page has, so all items are on the global list; v6: by the cache",
        "mem_cgroup_from_kmem: v6",
    ),
    row(
        "C.memcg access",
        "rcu_dereference() or READ_ONCE(): one read either way; memcg_from_slab_page() warns without RCU up to v5",
        "memcg_from_slab_page: v6",
    ),
    row(
        "entries[] read",
        "v6 adds smp_rmb() to READ_ONCE(): memory is sequentially consistent here (docs/limits.md)",
    ),
    row(
        "root memcg target",
        "up to v7 the root is charged and uncharged as any other; 5.3 counts only the node's pages",
        "memcg_charge_slab: 5.3",
        "memcg_uncharge_slab: 5.3",
    ),
    row(
        "vmstat flush at offline",
        "5.3 flushes slab statistics when a memcg goes offline (5.4-fixed does not any more)",
        "memcg_offline_kmem: 5.3",
        "memcg_flush_percpu_vmstats: 5.3",
    ),
    row(
        "memcg_slabinfo / SLAB_DEACTIVATED",
        "5.3 has the file, and the flag that it shows",
        "memcg_slabinfo_show: 5.3",
        "kmemcg_cache_deactivate: 5.3",
    ),
)
"""The changes from v4 to the merged kernel, by the series and the fixes of that summer."""

BESIDE = (
    row(
        "names",
        "v6 renames functions; these are otherwise the same",
        "kmemcg_rcufn: v6",
        "kmemcg_workfn: v6",
        "kmemcg_cache_shutdown_fn: v6",
    ),
    row("root cache deactivated", "v5 warns, and does nothing", "kmemcg_cache_deactivate: v5"),
    row(
        "vmstat flush at release",
        "5.3 adds pending statistics to the ancestors before it frees a memcg",
        "mem_cgroup_free: 5.3",
    ),
    row(
        "percpu_ref",
        "5.3 frees the per-CPU counters when the switch to atomic mode is over, unless the ref may be reinitialised",
        "percpu_ref_call_confirm_rcu: 5.3",
        "__percpu_ref_switch_to_percpu: 5.3",
    ),
    row(
        "dcache",
        "5.3 puts the parents of dentries that a shrinker kills onto its list, too",
        "shrink_dentry_list: 5.3",
        "__dput_to_list: 5.3",
    ),
)
"""Further functions that differ between v4 and the merged kernel."""

EARLIER_VERSIONS = ("v1", "v2", "v3", "v4")
EARLIER = (
    row(
        "refcnt type, start",
        "v1: an atomic_long, 1; v2: percpu_ref, in percpu mode, 1",
        "init_memcg_params: v2",
        "kmemcg_cache_get_many: v2",
        "kmemcg_cache_put_many: v2",
    ),
    row(
        "pins counted",
        "v1: pages and the initial one; v2: running allocations, too",
        "memcg_kmem_get_cache: v2",
        "memcg_kmem_put_cache: v2",
    ),
    row(
        "initial ref dropped by / 0 detected",
        "v1: by the work, each time; v2: by percpu_ref_kill() in the deactivation, after which zero is noticed",
        "kmemcg_workfn: v2",
        "kmemcg_cache_deactivate_after_rcu: v2",
    ),
    row(
        "get_cache: M found via",
        "v1, v2: css_tryget_online() in a loop; v3: under RCU, without a reference",
        "memcg_kmem_get_cache: v3",
    ),
    row(
        "get_cache: hold on success",
        "v1: the css of M; v2: the cache, by a get outside of RCU; v3: by a tryget under RCU",
        "memcg_kmem_get_cache: v2, v3",
    ),
    row(
        "get_cache exit / put_cache",
        "v1: puts the css; after the allocation, the css of the cache's owner at that time; v2: puts the cache; v3: "
        "the second rcu_read_lock()",
        "memcg_kmem_get_cache: v2, v3",
        "memcg_kmem_put_cache: v2",
    ),
    row(
        "schedule_create",
        "v1, v2: kmalloc(), then css_get(); v3: css_tryget_online(), then kmalloc()",
        "memcg_schedule_kmem_cache_create: v3",
    ),
    row(
        "charge: read of C.memcg",
        "v1: plainly; v2, v3: under RCU, and so is the charge; v4: the first online ancestor, RCU dropped before it",
        "memcg_charge_slab: v2, v4",
    ),
    row("charge: m NULL / own css ref", "v4: a failure / held, and put at the end", "memcg_charge_slab: v4"),
    row(
        "charge: error returned / tail order",
        "v1: never; v2: yes; v4: yes, and the css is put last",
        "memcg_charge_slab: v2, v4",
    ),
    row("uncharge", "v1: an atomic put; v2: a percpu put", "memcg_uncharge_slab: v2"),
    row("slab stats without MEMCG_KMEM", "the model is always built with CONFIG_MEMCG_KMEM"),
    row(
        "init_memcg_params / destroy_memcg_params(child)",
        "v1: sets 1 / nothing; v2: percpu_ref_init(), which may fail / percpu_ref_exit()",
        "init_memcg_params: v2",
        "destroy_memcg_params: v2",
    ),
    row(
        "memcg_link_cache store / memcg_unlink_cache",
        "the store is one store in all; v3: the pointer to the memcg is cleared at the unlink",
        "memcg_unlink_cache: v3",
    ),
    row(
        "kmemcg_cache_deactivate: dying read",
        "under slab_mutex in all four: kmemcg_cache_deactivate() is one function from v1 to v4",
    ),
    row(
        "memcg_deactivate_kmem_caches",
        "v1: the arrays' entries; v2: then all caches of the memcg, unless it is its own parent; v4: no such test",
        "memcg_deactivate_kmem_caches: v2, v4",
    ),
    row(
        "reparent: when / target",
        "v1: by each cache's deferred work, to the parent that its memcg has then; v2: at offline, all at once",
        "kmemcg_cache_deactivate_after_rcu: v2",
        "memcg_deactivate_kmem_caches: v2",
    ),
    row(
        "reparent: order",
        "v1: list, pointer, get, put; v2: pointers and puts, then the list, then the gets",
        "kmemcg_cache_deactivate_after_rcu: v2",
        "memcg_deactivate_kmem_caches: v2",
    ),
    row(
        "reparent if R.dying",
        "v1: not, for no work is scheduled; v2: yes",
        "kmemcg_cache_deactivate_after_rcu: v2",
        "memcg_deactivate_kmem_caches: v2",
    ),
    row(
        "deactivate_after_rcu", "v1: shrink and reparent; v2: shrink and kill", "kmemcg_cache_deactivate_after_rcu: v2"
    ),
    row("kmemcg_after_rcu_workfn", "v1: the function, NULL, a put; v2: the function, NULL", "kmemcg_workfn: v2"),
    row(
        "kmemcg_queue_cache_shutdown",
        "v1: called directly; v2: the release of the percpu_ref; v4: under a plain spinlock",
        "kmemcg_queue_cache_shutdown: v2",
        "kmemcg_cache_shutdown: v2, v4",
    ),
    row(
        "flush_memcg_workqueue: dying store",
        "v1 to v3: under slab_mutex; v4: under the spinlock, too",
        "flush_memcg_workqueue: v4",
    ),
    row(
        "memcg_offline_kmem",
        "v1: deactivates, then looks the parent up; v2: the other way round",
        "memcg_offline_kmem: v2",
    ),
    row(
        "GPs deactivate -> shutdown work",
        "v1: two; v2: three, the third for the switch to atomic mode",
        "kmemcg_cache_deactivate_after_rcu: v2",
    ),
    row(
        "page_cgroup_ino for slab pages",
        "v1, v2: page.mem_cgroup; v3: the cache's memcg, of every page; v4: of heads of compound pages only",
        "page_cgroup_ino: v3, v4",
        "memcg_from_slab_page: v3",
    ),
)
"""The changes from v1 to v4."""


# -- the tables -------------------------------------------------------------------------------------------------------


def rows_table(rows: Iterable[Row], versions: tuple[str, ...]) -> str:
    """A row for each change, with the variants that implement it."""
    lines = ["| change | what the versions do | here |", "|---|---|---|"]
    for one in rows:
        here = "<br>".join(variants(functions()[name], versions) for name, _ in one.changes) or "no step of its own"
        lines.append(f"| {one.title} | {one.what} | {here} |")
    return "\n".join(lines)


def variants(function: KernelFn[..., object], versions: tuple[str, ...]) -> str:
    """The bodies of *function* in each of these versions (with SLUB), as `module: name (versions)`."""
    parts: list[tuple[Body | None, list[str]]] = []
    for version in versions:
        body = function.body(version, "slub")
        if parts and parts[-1][0] is body:
            parts[-1][1].append(version)
        else:
            parts.append((body, [version]))
    shown = [f"{f'`{body.code.__name__}`' if body else 'none'} ({', '.join(names)})" for body, names in parts]
    module = next(place(body) for body, _ in parts if body is not None)
    return f"{module}: {', '.join(shown)}"


def functions_tables() -> str:
    """Every body of every kernel function, by C file and name, the oldest first."""
    by_file: dict[str, list[tuple[str, Body]]] = {}
    for name, function in sorted(functions().items()):
        for body in sorted(function.bodies, key=age):
            by_file.setdefault(body.file, []).append((name, body))
    return "\n\n".join(file_table(file, by_file[file]) for file in sorted(by_file))


def age(body: Body) -> int:
    """Sort key: the age of the oldest profile with this body."""
    return list(KERNELS).index(body.profiles[0])


def file_table(file: str, bodies: list[tuple[str, Body]]) -> str:
    """The functions of one C file."""
    lines = [f"### {file}", "", "| C function | in | here |", "|---|---|---|"]
    for name, body in bodies:
        called = f"`{body.name}`" if body.name == name else f"`{body.name}` (later `{name}`)"
        ours = body.code.__name__
        where = place(body) if ours == body.name else f"{place(body)}: `{ours}`"
        lines.append(f"| {called} | {span(body.profiles)} | {where} |")
    return "\n".join(lines)


def fixes_table() -> str:
    """The functions that each named fix changes where it is added or removed."""
    lines = ["| fix | commit | with it | without it |", "|---|---|---|---|"]
    for fix in ALL_FIXES:
        cells = (changed(fix.goes_into, fix.functions_in), changed(fix.comes_out_of, fix.functions_out))
        lines.append(f"| {fix.slug} | {fix.commit or '-'} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def changed(profiles: list[str], functions: Iterable[str]) -> str:
    """Functions that a fix changes, and the profiles."""
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(functions))
    return f"{names} ({span(tuple(profiles))})" if names else "-"


def place(body: Body) -> str:
    """The file of *body*, below actors/."""
    return body.code.__module__.removeprefix("actors.").replace(".", "/") + ".py"


def span(profiles: tuple[str, ...]) -> str:
    """Profiles as ranges: `v2..v5, 5.3`, as `declared_range` reads them, the steps last; `all` of them."""
    if set(KERNELS) <= set(profiles):
        return "all"
    if set(PROFILES) <= set(profiles):
        return f"..{list(PROFILES)[-1]}"
    known = [*PROFILES, *TODAY, "", *STEPS]  # no range goes from a profile to a step
    shown = [name for name in profiles if name not in STEPS]
    if set(profiles) != set(declared_range(",".join(shown) or FIRST)):
        shown += [name for name in profiles if name in STEPS]
    ranges: list[list[str]] = []
    for profile in shown:
        if ranges and known.index(profile) == known.index(ranges[-1][-1]) + 1:
            ranges[-1].append(profile)
        else:
            ranges.append([profile])
    return ", ".join(one[0] if len(one) == 1 else f"{one[0]}..{one[-1]}" for one in ranges)


TABLES: tuple[tuple[str, Callable[[], str]], ...] = (
    ("v4 to 5.3", lambda: rows_table(LATER, LATER_VERSIONS)),
    ("beside", lambda: rows_table(BESIDE, LATER_VERSIONS)),
    ("v1 to v4", lambda: rows_table(EARLIER, EARLIER_VERSIONS)),
    ("fixes", fixes_table),
    ("functions", functions_tables),
)
"""The tables of the page by the name of their markers."""


# -- the page ---------------------------------------------------------------------------------------------------------


def filled_in(page: str) -> str:
    """The *page* with every table up to date."""
    for name, table in TABLES:
        begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        head, found_begin, rest = page.partition(begin)
        _, found_end, tail = rest.partition(end)
        assert found_begin and found_end, f"{PAGE.name} has no markers for {name!r}"  # noqa: PT018 -- one fact: both markers exist
        page = f"{head}{begin}{table()}{end}{tail}"
    return page


def sections() -> Iterator[str]:
    """All tables, one after the other."""
    for name, table in TABLES:
        yield f"## {name}\n\n{table()}\n"


def main() -> None:
    """Print the tables, or write them into the page."""
    if "--write" in sys.argv[1:]:
        write_file(PAGE, filled_in(PAGE.read_text(encoding="utf-8")), overwrite=True)
    else:
        sys.stdout.write("\n".join(sections()))


if __name__ == "__main__":
    main()
