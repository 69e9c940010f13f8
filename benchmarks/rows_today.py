"""The rows of the table of flaws that history found after the series, and of weaker forms of today's code.

docs/kernel/known-flaws-today.md has the list; docs/limits.md names the rows that are missing here.
"""

from __future__ import annotations

from benchmarks.rows import Row, row

MANY = r"warn:kmem_cache_destroy module: Slab cache still has objects when called from"
ZERO = "last-object-vs-rmdir size=4096 removal=before"


def fixed(slug: str, scenario: str, signature: str, kernels: str = "6.12") -> Row:
    """A flaw that each of *kernels* shows without the fix of that name."""
    return row(slug, scenario, signature, f"{kernels} -{slug}", kernels)


def weaker(slug: str, scenario: str, signature: str, kernels: str = "6.12") -> Row:
    """A flaw that each of *kernels* shows with the variation of that name."""
    return row(slug, scenario, signature, f"{kernels} +{slug}", kernels)


ROWS_TODAY: tuple[Row, ...] = (
    fixed("css-get-from-zero", ZERO, r"refcount:Css"),
    fixed("css-get-from-zero-in-charge", "late-charge sleeps=lists", r"refcount:Css"),
    weaker("no-orig-objcg", "late-charge sleeps=active", r"refcount:ObjCgroup"),
    fixed("obj-stock-flush-required", "drain-vs-release rounds=6", r"null-deref:obj_stock_flush_required\(\)"),
    fixed("list-lru-add-without-rcu", "lru-of-module", r"use-after-free:Memcg"),
    weaker("kmemcg-id-late", "lru-of-module", r"null-deref:list_lru_add\(\)"),
    weaker("update-without-loop", "attach-vs-update", r"invariant:T20"),
    weaker("put-under-stock-lock", "objcg-handover", r"lockdep:memcg_stock.stock_lock"),
    fixed(
        "root-vmstat-after-reparent",
        "last-object-vs-rmdir size=4096 below=root",
        r"accounting:slab_unreclaimable of the root too high",
    ),
    fixed("bulk-free-uncharges-one", "bulk-allocation", r"invariant:T6"),
    fixed("objcg-lists-under-css-set-lock", "signal-vs-release", r"lockdep:&sighand->siglock -> css_set_lock"),
    fixed("objcg-vector-cycle", "accounted-kmalloc", r"property:eventually: no slab is left"),
    fixed("no-kvfree-barrier", "destroy-vs-kfree-rcu", MANY),
    weaker("barrier-without-monitor", "destroy-vs-kfree-rcu", MANY),
    row(
        "double-release-typesafe",
        "destroy-vs-shrink",
        r"use-after-free:KmemCache:kmem_cache_destroy",
        "6.12 -double-release-typesafe",
        "6.12; 6.12 +destruction-by-work",
    ),
    fixed("kobject-under-slab-mutex", "destroy-vs-shrink", r"lockdep:cpu_hotplug_lock"),
    fixed("lruvec-no-recheck", "isolate-vs-reparent", r"invariant:T10", "7.2"),
    fixed("putback-to-scanned-lruvec", "reclaim-vs-reparent", r"invariant:T10", "7.2"),
    fixed("events-without-rcu", "folio-memcg-vs-rmdir", r"use-after-free:Memcg", "7.2"),
    fixed("refault-without-rcu", "refault-vs-rmdir", r"use-after-free:Memcg", "7.2"),
    fixed("folio-get-without-loop", "folio-memcg-vs-rmdir use=get removal=before", r"refcount:Css", "7.2"),
    fixed("lru-size-copied", "isolate-vs-reparent", r"invariant:T10", "7.2"),
    fixed("migrate-foreign-node-objcg", "migrate-vs-reparent", r"invariant:T10", "7.2"),
    weaker("lists-after-objcgs", "isolate-vs-reparent", r"invariant:T10", "7.2"),
    weaker("parent-lru-unlocked", "isolate-vs-reparent", r"invariant:T10", "7.2"),
    fixed("list-lru-slot-first", "lru-moves-up", r"lockdep:&l->lock is not held", "7.2"),
    fixed("shrinker-bit-of-dying", "lru-moves-up takes=0", r"invariant:Q8-shrinker-bit", "7.2"),
)
"""The flaws that a search shows. `moved-tasks` shows kmem-pages-by-css in its table (tests/test_pins_today.py)."""
