"""One CPU's stocks of 7.2, written plainly from KERNEL-7.2 N5 alone, and the same read from a machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs

from actors.api import Machine
from actors.linux.mm.memcontrol import Memcg
from actors.linux.mm.obj_cgroup import ObjCgroup
from actors.linux.mm.vmstat import stats_of

PAGE = 4096
ITEMS = ("slab_reclaimable", "slab_unreclaimable")


@attrs.define
class Reference:
    """One CPU's stocks, and what is charged and counted, by names. KERNEL-7.2 N5.1 to N5.8, written plainly.

    `usage` has the pages of each cgroup's counter, `kernel` those that are counted as kernel pages, `rest` the bytes
    that the obj_cgroup itself keeps, `shown` the bytes that are counted, by cgroup, node and item. The obj_cgroup of a
    cgroup in `gone` belongs to the root, where no page is charged.
    """

    gone: frozenset[str]
    pages: list[tuple[str, int] | None] = attrs.field(factory=lambda: [None] * 7)
    bytes_: list[tuple[str, int] | None] = attrs.field(factory=lambda: [None] * 5)
    next_pages: int = 0
    next_bytes: int = 0
    usage: Counter[str] = attrs.field(factory=Counter)
    kernel: Counter[str] = attrs.field(factory=Counter)
    rest: Counter[str] = attrs.field(factory=Counter)
    shown: Counter[tuple[str, int, str]] = attrs.field(factory=Counter)
    index: int = -1
    node: int = 0
    kept: Counter[str] = attrs.field(factory=Counter)

    def memcg(self, objcg: str) -> str:
        return "/" if objcg in self.gone else objcg

    # pages

    def charge(self, memcg: str, nr: int) -> None:
        for at, slot in enumerate(self.pages):
            if slot is not None and slot[0] == memcg and nr <= 64 and slot[1] >= nr:
                self.pages[at] = (memcg, slot[1] - nr)
                return
        self.usage[memcg] += max(64, nr)
        if nr < 64:
            self.refill(memcg, 64 - nr)

    def refill(self, memcg: str, nr: int) -> None:
        if nr > 64:
            self.usage[memcg] -= nr
            return
        for at, slot in enumerate(self.pages):
            if slot is not None and slot[0] == memcg:
                self.pages[at] = (memcg, slot[1] + nr)
                if slot[1] + nr > 64:
                    self.drain_page_slot(at)
                return
        if None in self.pages:
            at = self.pages.index(None)
        else:
            at, self.next_pages = self.next_pages, (self.next_pages + 1) % 7
            self.drain_page_slot(at)
        self.pages[at] = (memcg, nr)

    def drain_page_slot(self, at: int) -> None:
        slot = self.pages[at]
        if slot is not None:
            self.usage[slot[0]] -= slot[1]
            self.pages[at] = None

    # bytes

    def charge_pages(self, objcg: str, nr: int) -> None:
        memcg = self.memcg(objcg)
        if memcg != "/":
            self.charge(memcg, nr)
        self.kernel[memcg] += nr

    def uncharge_pages(self, objcg: str, nr: int) -> None:
        memcg = self.memcg(objcg)
        self.kernel[memcg] -= nr
        if memcg != "/":
            self.refill(memcg, nr)

    def charge_bytes(self, objcg: str, nr: int) -> None:
        at = self.byte_slot(objcg)
        slot = self.bytes_[at] if at is not None else None
        if at is not None and slot is not None and slot[1] >= nr:
            self.bytes_[at] = (objcg, slot[1] - nr)
            return
        pages = (nr + PAGE - 1) // PAGE
        self.charge_pages(objcg, pages)
        if pages * PAGE > nr:
            self.refill_bytes(objcg, pages * PAGE - nr, allow=False)

    def refill_bytes(self, objcg: str, nr: int, *, allow: bool) -> None:
        at = self.byte_slot(objcg)
        if at is None:
            if None in self.bytes_:
                at = self.bytes_.index(None)
            else:
                at, self.next_bytes = self.next_bytes, (self.next_bytes + 1) % 5
                self.drain_byte_slot(at)
            self.bytes_[at] = (objcg, self.rest.pop(objcg, 0))
            allow = True
        slot = self.bytes_[at]
        assert slot is not None
        total, pages = slot[1] + nr, 0
        if (allow and total > PAGE) or total > 65535:
            pages, total = total >> 12, total & 4095
        self.bytes_[at] = (objcg, total)
        if pages:
            self.uncharge_pages(objcg, pages)

    def drain_byte_slot(self, at: int) -> None:
        slot = self.bytes_[at]
        if slot is None:
            return
        objcg, nr = slot
        pages = nr >> 12
        if pages:
            self.kernel[self.memcg(objcg)] -= pages
            if objcg not in self.gone:
                self.usage[objcg] -= pages
        self.rest[objcg] += nr & 4095
        if self.index == at:
            self.show_kept()
            self.index = -1
        self.bytes_[at] = None

    def byte_slot(self, objcg: str) -> int | None:
        return next((at for at, slot in enumerate(self.bytes_) if slot is not None and slot[0] == objcg), None)

    # statistics of objects

    def count(self, objcg: str, node: int, item: str, nr: int) -> None:
        at = self.byte_slot(objcg)
        if at is None:
            self.shown[self.memcg(objcg), node, item] += nr
            return
        if self.index == -1:
            self.index, self.node = at, node
        elif (self.index, self.node) != (at, node):
            self.show_kept()
            self.index, self.node = at, node
        cached = self.kept[item]
        total = cached + nr
        if abs(total) <= 32767 and (cached == 0 or abs(total) <= PAGE):
            self.kept[item] = total
        else:
            self.kept[item] = 0
            self.shown[self.memcg(objcg), node, item] += total

    def show_kept(self) -> None:
        slot = self.bytes_[self.index]
        assert slot is not None
        for item, nr in self.kept.items():
            self.shown[self.memcg(slot[0]), self.node, item] += nr
        self.kept.clear()

    # whole stocks

    def drain_pages(self) -> None:
        for at in range(7):
            self.drain_page_slot(at)

    def drain_bytes(self) -> None:
        for at in range(5):
            self.drain_byte_slot(at)

    def drain_all(self, memcg: str) -> None:
        if any(slot is not None and slot[0] == memcg and slot[1] for slot in self.pages):
            self.drain_pages()
        if any(slot is not None and self.memcg(slot[0]) == memcg for slot in self.bytes_):
            self.drain_bytes()

    def state(self) -> dict[str, Any]:
        return {
            "pages": self.pages,
            "bytes": self.bytes_,
            "next": (self.next_pages, self.next_bytes),
            "usage": some(self.usage),
            "kernel": some(self.kernel),
            "rest": some(self.rest),
            "shown": some(self.shown),
            "kept": (self.index, self.node if self.index >= 0 else 0, some(self.kept)),
            "css": dict(Counter(slot[0] for slot in self.pages if slot is not None)),
            "objcg": dict(Counter(slot[0] for slot in self.bytes_ if slot is not None)),
        }


def some(counter: Counter[Any]) -> dict[Any, int]:
    """The counters that are not zero."""
    return {key: nr for key, nr in counter.items() if nr}


@attrs.define
class Actual:
    """The same of a machine with one CPU: its cgroups by name, their obj_cgroups, and what these were at the start."""

    machine: Machine
    memcgs: dict[str, Memcg]
    objcgs: dict[str, ObjCgroup]
    css: dict[str, int] = attrs.field(factory=dict)
    refs: dict[str, int] = attrs.field(factory=dict)

    def begin(self) -> None:
        self.css = {name: self.references(memcg) for name, memcg in self.memcgs.items()}
        self.refs = {name: objcg.refcnt.value for name, objcg in self.objcgs.items()}

    @staticmethod
    def references(memcg: Memcg) -> int:
        assert memcg.css.refcnt is not None
        return memcg.css.refcnt.value

    def counted(self) -> Iterator[tuple[str, int | None, str, int]]:
        everybody = {"/": self.machine.root_mem_cgroup, **self.memcgs}
        for name, memcg in everybody.items():
            stats = stats_of(memcg)
            for item in (*ITEMS, "kernel"):
                for nid in (0, 1, None):
                    yield name, nid, item, stats.state_local[nid, item] + stats.unflushed((nid, item))

    def state(self) -> dict[str, Any]:
        (pages,), (bytes_,) = self.machine.memcg_stocks, self.machine.obj_stocks
        counted = list(self.counted())
        css = {name: self.references(memcg) - self.css[name] for name, memcg in self.memcgs.items()}
        objcg = {name: each.refcnt.value - self.refs[name] for name, each in self.objcgs.items()}
        return {
            "pages": [
                None if memcg is None else (memcg.name, nr)
                for memcg, nr in zip(pages.cached, pages.nr_pages, strict=True)
            ],
            "bytes": [
                None if objcg is None else (objcg.made_for.name, nr)
                for objcg, nr in zip(bytes_.cached, bytes_.nr_bytes, strict=True)
            ],
            "next": (pages.drain_idx, bytes_.drain_idx),
            "usage": {name: memcg.memory.usage for name, memcg in self.memcgs.items() if memcg.memory.usage},
            "kernel": {name: nr for name, nid, item, nr in counted if item == "kernel" and nid is None and nr},
            "rest": {name: each.nr_charged_bytes for name, each in self.objcgs.items() if each.nr_charged_bytes},
            "shown": {
                (name, nid, item): nr for name, nid, item, nr in counted if item in ITEMS and nid is not None and nr
            },
            "kept": (bytes_.index, bytes_.nid if bytes_.index >= 0 else 0, some(Counter(bytes_.slab_bytes))),
            "css": {name: nr for name, nr in css.items() if nr},
            "objcg": {name: nr for name, nr in objcg.items() if nr},
        }
