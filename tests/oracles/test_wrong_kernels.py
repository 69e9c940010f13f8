"""An error of the simulated kernel becomes a finding, not a Python exception."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from actors.linux.fs.drop_caches import SLAB
from actors.linux.fs.inode import Inode
from actors.linux.fs.namei import do_unlinkat, inode_of
from actors.linux.fs.super import SuperBlock
from actors.linux.kernel.cgroup.cgroup import Cgroup
from actors.machine.context import Context
from tests.oracles.mutants import signatures
from tests.vfs.vfs_helpers import Lab, dentry_of, drop, in_cgroup, open_file, run, touch

DISK = "invariant:disk:"

ALWAYS_DELETES = '''
"""fs/ext4/inode.c: ext4_evict_inode() deletes the file, whether or not it has a name."""

from actors.linux.mm.truncate import truncate_inode_pages_final
from actors.linux.fs.inode import clear_inode
from actors.api import kernel_fn


@kernel_fn("ext4_evict_inode", "fs/ext4/inode.c")
async def evict(ctx, inode):
    await truncate_inode_pages_final(ctx, inode)
    await ctx.ask(inode.i_sb.delete_disk_inode, inode.i_ino)
    await clear_inode(ctx, inode)
'''
NO_SECOND_LOOK = '''
"""fs/dcache.c: d_lookup() finds nothing that anybody has made."""

from actors.api import kernel_fn


@kernel_fn("d_lookup", "fs/dcache.c")
async def lookup(ctx, parent, name):
    return None
'''
FREED_TWICE = '''
"""mm/slub.c: discard_slab() frees the slab, and frees it again."""

from actors.api import kernel_fn, unpatched
from actors.linux.mm.slub import discard_slab


@kernel_fn("discard_slab", "mm/slub.c")
async def discard(ctx, s, slab):
    await unpatched(ctx, discard_slab, s, slab)
    await unpatched(ctx, discard_slab, s, slab)
'''


async def forget_and_open(ctx: Context, lab: Lab) -> None:
    """Drop a file that has a name from memory, and look it up on the disk again."""
    await in_cgroup(ctx, lab, lab.session, "a")
    for _ in range(3):
        await drop(ctx, SLAB)
    await open_file(ctx, lab.ext4, "a")


def test_a_file_that_has_gone_from_the_disk_is_corruption(tmp_path: Path) -> None:
    patch = tmp_path / "mutant.py"
    patch.write_text(ALWAYS_DELETES)

    assert f"{DISK}__ext4_iget" in run(forget_and_open, kernel="5.4-fixed", patch=patch).signatures()
    assert not run(forget_and_open, kernel="5.4-fixed").signatures()


def test_a_name_that_is_hashed_twice_is_found(tmp_path: Path) -> None:
    patch = tmp_path / "mutant.py"
    patch.write_text(NO_SECOND_LOOK)
    found = signatures("dentries-vs-rmdir", patch, schedules=2)

    assert any(name.startswith("invariant:dcache:") for name in found)


def test_a_slab_that_is_freed_twice_is_found(tmp_path: Path) -> None:
    patch = tmp_path / "mutant.py"
    patch.write_text(FREED_TWICE)
    found = signatures("rmdir-empty", patch, schedules=1) | signatures("nested", patch, schedules=1)

    assert found & {"double-free:page:__free_slab", "use-after-free:Slab:discard_slab"}


# -- the disk, one operation after the other --------------------------------------------------------------------------

Operation = Callable[[Context, SuperBlock, Inode], Awaitable[object]]

OPERATIONS: dict[str, Operation] = {
    "written": lambda ctx, sb, inode: ctx.ask(sb.write_disk_inode, inode.i_ino, 1, 1),
    "read": lambda ctx, sb, inode: ctx.ask(sb.read_disk_inode, inode.i_ino),
    "deleted again": lambda ctx, sb, inode: ctx.ask(sb.delete_disk_inode, inode.i_ino),
    "looked into": lambda ctx, sb, inode: ctx.ask(sb.read_entry, inode.i_ino, "x"),
    "added to": lambda ctx, sb, inode: ctx.ask(sb.add_entry, inode.i_ino, "x", 7),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_what_is_not_on_the_disk_any_more_is_not_to_be_used(operation: Operation) -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        await touch(ctx, lab.ext4, "a")
        inode = dentry_of(lab.ext4, "a").d_inode
        assert inode is not None
        await do_unlinkat(ctx, lab.ext4.root, "a")
        assert not [name for name in lab.world.findings if name.startswith(DISK)]
        await operation(ctx, lab.ext4, inode)

    lab = run(story, kernel="5.4-fixed")

    assert [name for name in lab.signatures() if name.startswith(DISK)]


def test_a_name_that_is_not_there_cannot_be_removed() -> None:
    async def story(ctx: Context, lab: Lab) -> None:
        directory, _ = inode_of(lab.ext4.root)
        await ctx.ask(lab.ext4.delete_entry, directory.i_ino, "nothing")

    assert [name for name in run(story).signatures() if name.startswith(DISK)]


# -- NULL -------------------------------------------------------------------------------------------------------------


def test_a_field_into_which_nothing_was_put_is_null() -> None:
    """It corresponds to zeroed memory in C."""

    async def story(ctx: Context, lab: Lab) -> None:
        tree = lab.machine.cgroup_tree
        await ctx.ask(tree.move_task, ctx, Cgroup(tree.actor, "bare", 7, lab.machine.root_cgroup))

    assert run(story, kernel="5.4-fixed").signatures() == ["null-deref:->css:story"]
