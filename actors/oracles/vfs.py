"""VFS checks at quiescence: the holders of each dentry and inode, their lists, and the owners of pages.

Like the rest of the oracles they observe from outside. Every reference must have a holder, and a shrinker must find
every object without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from actors.linux.fs.dcache import Dentry, DentryFlags
from actors.linux.fs.inode import Inode, InodeState
from actors.linux.mm.list_lru import ListLruOne

if TYPE_CHECKING:
    from actors.linux.fs.super import SuperBlock
    from actors.linux.init.machine import Machine
    from actors.linux.mm.filemap import Page


class Wrong(NamedTuple):
    """A violation: its oracle, its name, and the details."""

    kind: str
    name: str
    text: str


def vfs_wrongs(machine: Machine) -> Iterator[Wrong]:
    """All violations in the filesystems of *machine*, at the final quiescence."""
    for sb in machine.vfs.super_blocks:
        dentries = all_dentries(sb)
        opened = Counter(file.f_path for file in sb.files)
        named = Counter(dentry.d_inode for dentry in dentries)
        for dentry in dentries:
            yield from check_dentry(dentry, opened[dentry])
        for inode in sb.s_inodes:
            yield from check_inode(inode, named[inode])
    yield from check_pages(machine)


def all_dentries(sb: SuperBlock) -> list[Dentry]:
    """Every dentry of the filesystem, hashed or not."""
    found = [sb.root] if sb.s_root is not None else []
    for dentry in found:
        found.extend(dentry.d_subdirs)
    return found


def check_dentry(dentry: Dentry, opened: int) -> Iterator[Wrong]:
    """A dentry is held by its children, by open files, by the mount (the root) and, on tmpfs, by its own name."""
    is_pinned = dentry.d_sb.s_type.always_deletes_dentries and dentry.is_hashed and dentry.d_inode is not None
    held = len(dentry.d_subdirs) + opened + is_pinned + (dentry.d_parent is None)
    count = dentry.d_lockref.count
    if count != held:
        yield Wrong(
            "leak", "dentry reference", f"{dentry.label} has {count} references; shadow accounting explains {held}"
        )
    if dentry.d_lockref.holder is not None:
        yield Wrong("invariant", "dcache", f"d_lock of {dentry.label} is held by {dentry.d_lockref.holder.name}")
    on_lru = isinstance(dentry.d_lru.on, ListLruOne)
    flags = dentry.d_flags & (DentryFlags.LRU_LIST | DentryFlags.SHRINK_LIST)
    if flags != (DentryFlags.LRU_LIST if on_lru else DentryFlags.NONE):
        yield Wrong("invariant", "dcache", f"{dentry.label} has {flags}, but is {'' if on_lru else 'not '}on the LRU")
    if not count and not on_lru:
        yield Wrong("leak", "dentry", f"{dentry.label} has no user, and no shrinker finds it")


def check_inode(inode: Inode, named: int) -> Iterator[Wrong]:
    """An inode is held by its dentries. Without any it is on the LRU, or dirty and on the list to be written."""
    if inode.i_count != named:
        text = f"{inode.label} has {inode.i_count} references; shadow accounting explains {named}"
        yield Wrong("leak", "inode reference", text)
    if inode.i_state & ~(InodeState.DIRTY | InodeState.REFERENCED):
        yield Wrong("invariant", "inode", f"{inode.label} is {inode.i_state}, but no flow works on it")
    is_dirty, is_listed = InodeState.DIRTY in inode.i_state, inode in inode.i_sb.dirty_inodes
    if is_dirty != is_listed:
        yield Wrong("leak", "dirty inode", f"{inode.label} is {inode.i_state}, on the list to be written: {is_listed}")
    if not inode.i_count and not isinstance(inode.i_lru.on, ListLruOne) and not is_dirty:
        yield Wrong("leak", "inode", f"{inode.label} has no user, and no shrinker finds it")


def resting_wrongs(machine: Machine) -> Iterator[tuple[str, str]]:
    """Violations at any quiescence; they may be gone again at the final one."""
    for sb in machine.vfs.super_blocks:
        for inode in sb.s_inodes:
            yield from check_disk(sb, inode)
            for page in inode.i_pages.values():
                yield from check_page_lru(sb, page)


def check_page_lru(sb: SuperBlock, page: Page) -> Iterator[tuple[str, str]]:
    """A page that can be read again is on an LRU list of its memcg, where reclaim finds it; from 6.12 on: folio.py."""
    if page.memcg is None or page.memcg.nodeinfo:
        return
    is_listed = page in page.memcg.lru[page.nid]
    if is_listed is not sb.s_type.has_reclaimable_pages:
        yield "page LRU", f"{page.label} is {'' if is_listed else 'not '}on a list of {page.memcg.label}"


def check_disk(sb: SuperBlock, inode: Inode) -> Iterator[tuple[str, str]]:
    """An inode that is neither dirty nor being written is on the disk as in memory: otherwise its change would be lost.

    Times, which only I_DIRTY_TIME delays, are not modelled.
    """
    on_disk = sb.disk.get(inode.i_ino)
    if sb.s_type.write_inode is None or on_disk is None or inode.i_state & ~InodeState.REFERENCED:
        return
    if (on_disk.size, on_disk.nlink) != (inode.i_size, inode.i_nlink):
        memory = f"{inode.label} is clean, with {inode.i_size} pages and {inode.i_nlink} links"
        yield "disk", f"{memory}; on the disk it has {on_disk.size} and {on_disk.nlink}"


def check_pages(machine: Machine) -> Iterator[Wrong]:
    """A page of a file is charged to one memcg, which counts it; from 6.12 on: folio.py."""
    if machine.is_without_child_caches:
        return
    pages: list[Page] = [
        page for sb in machine.vfs.super_blocks for inode in sb.s_inodes for page in inode.i_pages.values()
    ]
    owned = Counter(page.memcg for page in pages)
    for memcg in (*machine.memcgs(), machine.root_mem_cgroup):
        if memcg.cache_pages != owned[memcg]:
            text = f"{memcg.label} has {memcg.cache_pages} pages of files; shadow accounting explains {owned[memcg]}"
            yield Wrong("leak", "page of a file", text)
        lost = [page for lru in memcg.lru.values() for page in lru if page.mapping is None]
        if lost:
            yield Wrong("invariant", "page LRU", f"{memcg.label} has {len(lost)} pages of no file on its lists")
    for page in pages:
        if page.refs != 1:
            yield Wrong("leak", "page reference", f"{page.label} has {page.refs} references at rest")
