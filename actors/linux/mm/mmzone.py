"""LRU lists of pages: one lruvec for each memcg and node. mm/mmzone.c @6.12; KERNEL-today 10 and 11.

There are no active and inactive halves and no zones: a lruvec has one list, and one size, which the kernel keeps beside
the list. Whoever changes either holds `lru_lock`.
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


@attrs.define(eq=False)
class Lruvec(Shared):
    """struct lruvec of *memcg* on node *nid*: the pages that nobody has isolated, oldest first, and their number."""

    memcg: Memcg
    nid: int
    lru_lock: SpinLock = attrs.field(init=False)
    pages: ListHead[Page] = attrs.field(init=False)
    lru_size: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.lru_lock = SpinLock(self.actor, "lruvec->lru_lock")
        self.pages = ListHead(self, "list")

    @property
    def label(self) -> str:
        return f"lruvec of {self.memcg.name}, node {self.nid}"

    @operation(UPDATE, part="list")
    def take_all(self) -> tuple[Page, ...]:
        """Empty the list (the first half of list_splice)."""
        self.lru_lock.assert_held()
        return self.pages.take_all()

    @operation(UPDATE, part="list")
    def splice_tail(self, pages: tuple[Page, ...]) -> None:
        self.lru_lock.assert_held()
        for page in pages:
            self.pages.list_add_tail(page)

    @operation(READ, part="lru_size")
    def read_size(self) -> int:
        """lruvec_lru_size(), without the lock."""
        return self.lru_size

    @operation(UPDATE, part="lru_size")
    def add_size(self, nr: int) -> int:
        self.lru_size += nr
        return self.lru_size

    @operation(UPDATE, part="lru_size")
    def clear_size(self) -> None:
        self.lru_size = 0
