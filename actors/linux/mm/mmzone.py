"""LRU lists of pages: one lruvec for each memcg and node. mm/mmzone.c @6.12; KERNEL-today 10 and 11.

There are no zones, and no active halves: a lruvec has a list of pages of files, which reclaim takes, and one of pages
that only swap could take. The kernel keeps the size of a list beside it. Whoever changes either holds `lru_lock`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from actors.linux.kernel.locking.locks import SpinLock
from actors.machine.list_head import ListHead
from actors.system.actor import Shared
from protocol.operations import READ, UPDATE, operation

if TYPE_CHECKING:
    from actors.linux.mm.filemap import Page
    from actors.linux.mm.memcontrol import Memcg

INACTIVE_ANON, INACTIVE_FILE = "inactive_anon", "inactive_file"
LISTS = (INACTIVE_ANON, INACTIVE_FILE)
"""The lists of a lruvec, as memory.stat names them."""


@attrs.define(eq=False)
class Lruvec(Shared):
    """struct lruvec of *memcg* on node *nid*: its lists, oldest page first, and the number of pages in each.

    Shadow accounting: `listed` is the number that a list really has.
    """

    memcg: Memcg
    nid: int
    lru_lock: SpinLock = attrs.field(init=False)
    lists: dict[str, ListHead[Page]] = attrs.field(init=False)
    lru_size: dict[str, int] = attrs.field(init=False)
    listed: dict[str, int] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lru_lock = SpinLock(self.actor, "lruvec->lru_lock")
        self.lists = {lru: ListHead(self, lru) for lru in LISTS}
        self.lru_size, self.listed = dict.fromkeys(LISTS, 0), dict.fromkeys(LISTS, 0)

    @property
    def label(self) -> str:
        return f"lruvec of {self.memcg.name}, node {self.nid}"

    def parts(self) -> tuple[Shared, ...]:
        return (self, self.lru_lock)

    def check_locked(self) -> None:
        """Shadow accounting, T10: whoever changes a list holds the lock of that list."""
        world = self.actor.world
        if self.lru_lock.holder is not world.current:
            text = f"invariant T10: a list of {self.label} is changed without its lock"
            world.report("invariant", "T10", text, flow=world.current)

    @operation(UPDATE)
    def add_folio(self, page: Page) -> None:
        """list_add(), in lruvec_add_folio()."""
        self.check_locked()
        self._link(page.lru, page)

    def _link(self, lru: str, page: Page) -> None:
        self.lists[lru].list_add_tail(page)
        self.listed[lru] += page.nr_pages

    def _unlink(self, lru: str, page: Page) -> None:
        self.lists[lru].list_del(page)
        self.listed[lru] -= page.nr_pages

    @operation(UPDATE)
    def del_folio(self, page: Page) -> None:
        """list_del(), in lruvec_del_folio(): from the list that the page is on, whosever it is."""
        for head in page.on_lists:
            assert isinstance(head.owner, Lruvec)
            head.owner.check_locked()
            head.owner._unlink(page.lru, page)

    @operation(UPDATE)
    def isolate_folios(self, nr: int) -> tuple[Page, ...]:
        """isolate_lru_folios(): take up to *nr* of the oldest pages, with a reference each.

        It leaves pages that are being freed, or that another isolates and has not taken off the list yet.
        """
        self.check_locked()
        pages, found = [], 0
        for page in self.lists[INACTIVE_FILE]:
            if found >= nr:
                break
            if page.refs and page.is_lru:
                pages.append(page)
                found += page.nr_pages
        for page in pages:
            page.refs += 1
            page.is_lru = False
            self._unlink(INACTIVE_FILE, page)
        return tuple(pages)

    @operation(UPDATE)
    def take_list(self, lru: str) -> tuple[Page, ...]:
        """Empty a list (the first half of list_splice)."""
        self.check_locked()
        self.listed[lru] = 0
        return self.lists[lru].take_all()

    @operation(UPDATE)
    def splice_oldest(self, lru: str, pages: tuple[Page, ...]) -> None:
        """The second half of list_splice_tail(): reclaim takes from the tail, which is the head of the list here."""
        self.check_locked()
        for page in reversed(pages):
            self.lists[lru].list_add(page)
            self.listed[lru] += page.nr_pages

    @operation(READ)
    def read_size(self, lru: str) -> int:
        """lruvec_lru_size(), without the lock."""
        return self.lru_size[lru]

    @operation(UPDATE)
    def add_size(self, lru: str, nr: int) -> int:
        self.lru_size[lru] += nr
        return self.lru_size[lru]

    @operation(UPDATE)
    def clear_size(self, lru: str) -> None:
        self.lru_size[lru] = 0
