"""Tasks that were moved out, holes in tmpfs files, and what a sample has on the kernels of today."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actors.linux.fs.file_table import fput
from actors.linux.fs.namei import do_filp_open
from actors.linux.fs.read_write import vfs_write
from actors.linux.kernel.cgroup.cgroup import memcg_of
from actors.linux.mm.shmem import shmem_fallocate
from actors.machine.context import Context
from scenarios.stage import enter, mkdir
from tests.conftest import Answer, Command
from tests.vfs.vfs_helpers import Lab, removed, rest, run

MOVED = ("run", "moved-tasks", "--kernel", "6.12", "--no-log", "--set", "generations=4", "--set", "every=2", "--json")


def samples_of(answer: Answer) -> list[dict[str, Any]]:
    samples: list[dict[str, Any]] = json.loads(answer.out)["samples"]
    return samples


# -- tasks that were moved out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "dying"),
    [([], [0, 0, 0, 0, 0]), (["--without", "kmem-pages-by-css"], [0, 2, 4, 2, 0])],
)
def test_a_stack_keeps_its_cgroup_only_without_the_fix(slabrace: Command, options: list[str], dying: list[int]) -> None:
    """KERNEL-today 9.3 and 24: each stack holds an obj_cgroup; before 5.14 it held the memcg."""
    samples = samples_of(slabrace(*MOVED, *options))

    assert [sample["point"] for sample in samples] == ["base", "g2", "g4", "exit2", "exit4"]
    assert [sample["dying_cgroups"] for sample in samples] == dying


def test_each_stack_keeps_an_obj_cgroup(slabrace: Command) -> None:
    base, *grown, _released, _end = [sample["obj_cgroups"] for sample in samples_of(slabrace(*MOVED))]

    assert [count - base for count in grown] == [2, 4]


# -- samples ----------------------------------------------------------------------------------------------------------


def test_only_the_kernels_of_today_count_obj_cgroups(slabrace: Command) -> None:
    for kernel, has_any in (("5.3", False), ("6.12", True)):
        command = ("run", "shared-pagecache", "--kernel", kernel, "--no-log", "--set", "generations=1")
        found = samples_of(slabrace(*command, "--json"))

        assert all(("obj_cgroups" in sample) is has_any for sample in found)
        assert ("obj_cgroups" in slabrace(*command).out) is has_any


# -- holes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["original", "5.3", "6.12"])
def test_a_hole_frees_the_pages_in_it_and_no_others(kernel: str) -> None:
    """The cgroup whose pages are in the hole goes; the file keeps its size, and the other pages theirs."""

    async def story(ctx: Context, lab: Lab) -> None:
        first, second = [await mkdir(ctx, lab.machine.root_cgroup, name) for name in ("first", "second")]
        file = await do_filp_open(ctx, lab.tmpfs.root, "shared", creat=True)
        assert file is not None
        for cgroup in (first, second):
            await enter(ctx, cgroup)
            assert await vfs_write(ctx, file, 3) == 3
        await enter(ctx, lab.session)
        for cgroup in (first, second):
            await removed(ctx, cgroup)
        await shmem_fallocate(ctx, file, 0, 2)
        await rest(ctx)
        assert (memcg_of(first.css).cache_pages, memcg_of(second.css).cache_pages) == (1, 3)
        assert lab.machine.root_cgroup.nr_dying_descendants == 2
        await shmem_fallocate(ctx, file, 0, 3)
        await rest(ctx)
        inode = file.dentry.d_inode
        assert inode is not None
        assert (sorted(inode.i_pages), inode.i_size) == ([3, 4, 5], 6)
        assert lab.machine.root_cgroup.nr_dying_descendants == 1
        await shmem_fallocate(ctx, file, 3, 100)
        await fput(ctx, file)
        await rest(ctx)

    lab = run(story, kernel=kernel)

    assert not lab.signatures()
    assert lab.machine.root_cgroup.nr_dying_descendants == 0
