"""The stocks of the CPUs, as the oracles see them: of any kernel, and the rules of those with slots. KERNEL-7.2 N5; T9.

A stock of pages has pages that are charged in advance to a memcg. A stock of bytes has the rest of pages that are
charged to an obj_cgroup. Up to 6.12 a CPU has one of each, with one owner. From 7.2 on there are slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from actors.linux.mm.memcontrol import CHARGE_BATCH
from actors.linux.mm.obj_cgroup import S16_MAX, U16_MAX

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.mm.memcontrol import Memcg, MemcgStock
    from actors.linux.mm.obj_cgroup import ObjCgroup, ObjStock


@attrs.frozen
class Pages:
    """`nr` pages of `memcg` in the stock called `label`, perhaps none; it has a css reference from 6.12 on.

    `is_flushing`: a drain of the stock is under way.
    """

    label: str
    memcg: Memcg
    nr: int
    is_flushing: bool


@attrs.frozen
class Bytes:
    """`nr` bytes of pages of `objcg` in a stock, and the bytes of its objects that no statistics have counted yet."""

    objcg: ObjCgroup
    nr: int
    uncounted: dict[str, int]


def page_slots(machine: Machine) -> Iterator[Pages]:
    """The owners of pages in all stocks."""
    for stock in machine.stocks:
        if stock.cached is not None:
            yield Pages(stock.label, stock.cached, stock.nr_pages, stock.is_flushing)
    for slots in machine.memcg_stocks:
        for memcg, nr in zip(slots.cached, slots.nr_pages, strict=True):
            if memcg is not None:
                yield Pages(slots.label, memcg, nr, slots.is_flushing)


def byte_slots(machine: Machine) -> Iterator[Bytes]:
    """The owners of bytes in all stocks."""
    for stock in machine.stocks:
        if stock.cached_objcg is not None:
            yield Bytes(stock.cached_objcg, stock.nr_bytes, stock.slab_bytes)
    for slots in machine.obj_stocks:
        for at, (objcg, nr) in enumerate(zip(slots.cached, slots.nr_bytes, strict=True)):
            if objcg is not None:
                yield Bytes(objcg, nr, slots.slab_bytes if slots.index == at else {})


@attrs.define(eq=False)
class StockRules:
    """T9, for each CPU's stocks with slots, whenever their lock is dropped and at quiescence."""

    machine: Machine

    def watch(self) -> None:
        """Look at a stock after each unlock."""
        for pages in self.machine.memcg_stocks:
            pages.lock.check = lambda pages=pages: self._check_pages(pages)
        for bytes_ in self.machine.obj_stocks:
            bytes_.lock.check = lambda bytes_=bytes_: self._check_bytes(bytes_)

    def wrongs(self) -> Iterator[str]:
        """What is wrong at quiescence: a stock that is marked for a drain that never comes. KERNEL-7.2 N5.7."""
        for stock in (*self.machine.memcg_stocks, *self.machine.obj_stocks):
            if stock.is_flushing:
                yield f"{stock.label} is marked as one that is to be drained, and no drain is under way"
            if stock.lock.holder is not None:
                yield f"the lock of {stock.label} is held by {stock.lock.holder.name} at quiescence"

    def _check_pages(self, stock: MemcgStock) -> None:
        owners = [memcg for memcg in stock.cached if memcg is not None]
        if len({*owners}) < len(owners):
            self._violated(f"a memcg has two slots of {stock.label}")
        for memcg, nr in zip(stock.cached, stock.nr_pages, strict=True):
            if not 0 <= nr <= (CHARGE_BATCH if memcg is not None else 0):
                name = memcg.name if memcg is not None else "nobody"
                self._violated(f"a slot of {stock.label} has {nr} pages of {name}")
            if memcg is not None and memcg.is_root:
                self._violated(f"the root has a slot of {stock.label}")

    def _check_bytes(self, stock: ObjStock) -> None:
        owners = [objcg for objcg in stock.cached if objcg is not None]
        if len({*owners}) < len(owners):
            self._violated(f"an obj_cgroup has two slots of {stock.label}")
        for objcg, nr in zip(stock.cached, stock.nr_bytes, strict=True):
            if not 0 <= nr <= (U16_MAX if objcg is not None else 0):
                label = objcg.label if objcg is not None else "nobody"
                self._violated(f"a slot of {stock.label} has {nr} bytes of {label}")
            if objcg is not None and objcg.is_root:
                self._violated(f"the root's obj_cgroup has a slot of {stock.label}")
        uncounted = [nr for nr in stock.slab_bytes.values() if nr]
        if uncounted and (stock.index < 0 or stock.cached[stock.index] is None):
            self._violated(f"{stock.label} has {uncounted[0]} bytes of no obj_cgroup to count")
        if any(abs(nr) > S16_MAX for nr in uncounted):
            self._violated(f"{stock.label} has {max(uncounted, key=abs)} bytes to count, more than 16 bits hold")

    def _violated(self, text: str) -> None:
        self.machine.world.report("invariant", "T9", f"invariant T9: {text}")
