"""Checks of pages on LRU lists, from 6.12 on: KERNEL-today 20, T10, T11, U8. They observe from outside.

A page that can be taken again is on one list, or waits in a batch. The list is that of the memcg that the page is
charged to now, on the page's own node. The size of a list is the number of its pages.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.mm.filemap import Page
    from actors.linux.mm.memcontrol import Memcg
    from actors.linux.mm.mmzone import Lruvec
    from actors.linux.mm.obj_cgroup import ObjCgroup


def watch_lruvecs(machine: Machine) -> None:
    """T10 at each step: the size of a list is the number of its pages whenever the lock of its lruvec is free."""

    def check(lruvec: Lruvec) -> None:
        if lruvec.lru_lock.holder is None and lruvec.lru_size != lruvec.listed:
            text = f"{lruvec.label} counts {lruvec.lru_size} pages, and has {lruvec.listed} on its lists"
            machine.world.report("invariant", "T10", f"invariant T10: {text}")

    machine.check_lruvec = check
    for node in machine.root_mem_cgroup.nodeinfo:
        node.lruvec.actor.check = functools.partial(check, node.lruvec)


def resting_folio_wrongs(machine: Machine) -> Iterator[tuple[str, str]]:
    """All violations at any quiescence, by number and text."""
    listed: set[Page] = set()
    for memcg in all_memcgs(machine):
        for node in memcg.nodeinfo:
            yield from check_lruvec(node.lruvec)
            listed.update(page for pages in node.lruvec.lists.values() for page in pages)
    waiting = {page for batches in machine.fbatches for page in batches.lru_add}
    for page in mapped_pages(machine):
        if page not in listed and page not in waiting:
            yield "T10", f"{page.label} is on no LRU list, and in no batch"


def all_memcgs(machine: Machine) -> Iterator[Memcg]:
    yield machine.root_mem_cgroup
    yield from machine.memcgs()


def check_lruvec(lruvec: Lruvec) -> Iterator[tuple[str, str]]:
    """T10: each page is on the list that it belongs to. So a removed memcg has nothing on its lists on 7.2 (U8)."""
    for lru, pages in lruvec.lists.items():
        for page in pages:
            owner = memcg_of(page)
            if owner is not lruvec.memcg or page.nid != lruvec.nid or page.lru != lru or not page.is_lru:
                name = owner.name if owner is not None else "nobody"
                text = f"{page.label} is on {lru} of {lruvec.label}; it is charged to {name}, on node {page.nid}"
                yield "T10", text


def memcg_of(page: Page) -> Memcg | None:
    """The memcg that a page is charged to."""
    return page.memcg if page.objcg is None else page.objcg.memcg


def mapped_pages(machine: Machine) -> Iterator[Page]:
    """The pages of all files, and the memory of tasks."""
    for sb in machine.vfs.super_blocks:
        for inode in sb.s_inodes:
            yield from inode.i_pages.values()
    yield from machine.task_pages.i_pages.values()


def folio_wrongs(machine: Machine) -> Iterator[tuple[str, str, str]]:
    """All violations at the final quiescence: a kind, a name, and the text."""
    waiting = Counter(page for batches in machine.fbatches for page in batches.lru_add)
    pages = dict.fromkeys((*mapped_pages(machine), *waiting))
    owned: Counter[Memcg | ObjCgroup | None] = Counter()
    for page in pages:
        owned[page.objcg or page.memcg] += 1
        held = (page.mapping is not None) + waiting[page]
        if page.refs != held:
            yield "leak", "page reference", f"{page.label} has {page.refs} references at rest, {held} are explained"
    for owner in owners(machine):
        if owner.folios != owned[owner]:
            text = f"{owner.label} is held by {owner.folios} folios; shadow accounting explains {owned[owner]}"
            yield "leak", "page of a file", text


def owners(machine: Machine) -> Iterator[Memcg | ObjCgroup]:
    """What folios may hold: every memcg, and every obj_cgroup that is not released, the root's too."""
    yield from all_memcgs(machine)
    yield from machine.objcgs
    for owner in machine.root_mem_cgroup.objcg_owners():
        if owner.objcg is not None:
            yield owner.objcg


def folio_pages(machine: Machine) -> int:
    """The pages that all folios have together."""
    return sum(owner.folio_pages for owner in owners(machine))
