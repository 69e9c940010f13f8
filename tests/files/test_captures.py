"""Real captures, field by field: the parsers read them, and rendering gives the captured text again."""

from __future__ import annotations

import re
from importlib import resources

from protocol.formats.cgroup_files import (
    CGROUPS_COLUMNS_LINE,
    CgroupsRow,
    parse_cgroups,
    parse_flat_keyed,
    parse_u64,
    render_cgroups,
    render_flat_keyed,
    render_u64,
)
from protocol.formats.kpagecgroup import pack_kpagecgroup, unpack_kpagecgroup
from protocol.formats.memcg_slabinfo import MemcgSlabinfoRow, parse_memcg_slabinfo, render_memcg_slabinfo
from protocol.formats.slab_directory import DirectoryEntry, parse_directory, render_directory, unique_id
from protocol.formats.slabinfo import parse_slabinfo, render_slabinfo
from scenarios.registry import DEFAULT_CAPTURE
from tests.files.helpers import DATA


def capture(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


def slabinfo_capture() -> str:
    return resources.files("scenarios").joinpath("data", DEFAULT_CAPTURE).read_text(encoding="utf-8")


def test_slabinfo_is_rendered_as_it_was_captured_byte_by_byte() -> None:
    """The rows include names of more than 17 characters; 6.18 pads them in the same way as 5.3."""
    text = slabinfo_capture()
    ours = render_slabinfo(parse_slabinfo(text, source="x")).splitlines()
    lines = text.splitlines()

    assert len(ours) == len(lines) > 200
    assert [line.rstrip() for line in ours] == [line.rstrip() for line in lines]


def test_memcg_slabinfo_of_the_mail_has_the_fields_that_stand_there() -> None:
    text = capture("memcg_slabinfo-longman-2019-06-19.txt")
    rows = parse_memcg_slabinfo(text, source="x")

    assert rows[4] == MemcgSlabinfoRow("xfs_inode", None, "", 770, 816, 24, 24)
    assert rows[6] == MemcgSlabinfoRow("xfs_inode", 88, "dead", 1, 34, 1, 1)
    assert [row.num_objs // row.num_slabs for row in rows if row.num_slabs] == [51, 45, 45, 34, 34, 34, 34, 34, 34]
    assert [line.split() for line in render_memcg_slabinfo(rows).splitlines()[1:]] == [
        line.split() for line in text.splitlines()[1:]
    ]


def test_cgroups_is_rendered_as_it_was_captured_byte_by_byte() -> None:
    text = capture("proc-cgroups-linux-6.18.txt")
    rows = parse_cgroups(text, source="x")

    assert text.splitlines()[0] == CGROUPS_COLUMNS_LINE
    assert rows[4] == CgroupsRow("memory", 4, 11, 1)
    assert render_cgroups(rows) == text


def test_cgroup_stat_is_rendered_as_it_was_captured_and_ours_are_its_two_lines() -> None:
    text = capture("cgroup.stat-linux-6.18.txt")
    values = parse_flat_keyed(text, source="x")

    assert render_flat_keyed(values) == text
    assert [key for key in values if "subsys" not in key] == ["nr_descendants", "nr_dying_descendants"]


def test_kmem_usage_is_rendered_as_it_was_captured_and_is_whole_pages() -> None:
    text = capture("memory.kmem.usage_in_bytes-linux-6.18.txt")
    value = parse_u64(text, source="x")

    assert value > 0
    assert value % 4096 == 0
    assert render_u64(value) == text


def test_kpagecgroup_holds_the_inode_numbers_of_cgroup_directories() -> None:
    """The entries are little-endian 64-bit numbers, equal to the inode numbers of stat(2) (tests/data/README.md)."""
    data = (DATA / "kpagecgroup-linux-6.18.bin").read_bytes()
    inodes = unpack_kpagecgroup(data, source="x")

    assert len(inodes) == 512
    assert set(inodes) == {0, 1, 35, 3434, 3830, 3962, 4160, 4193}
    assert pack_kpagecgroup(inodes) == data


def test_the_directory_is_rendered_as_it_was_captured() -> None:
    text = capture("sys-kernel-slab-linux-6.18.txt")
    listed = parse_directory(text, source="x")

    assert DirectoryEntry("dentry") in listed
    assert DirectoryEntry("pid", ":A-0000192") in listed
    assert render_directory(listed) == text


def test_every_name_in_the_directory_is_made_as_ours_are() -> None:
    """Links lead to unique ids, which contain the size and the flags in the places where the model puts them."""
    seen = set()
    for entry in parse_directory(capture("sys-kernel-slab-linux-6.18.txt"), source="x"):
        found = re.fullmatch(r":(?:(a?)(A?)-)?(\d{7,})", entry.target or entry.path)

        assert found is not None or entry.target is None
        if found is not None:
            flags = {"is_reclaimable": bool(found[1]), "is_accounted": bool(found[2])}
            assert unique_id(int(found[3]), **flags) == found[0]
            seen.add(tuple(flags.values()))
    assert len(seen) == 4, "every combination of the two flags"


def test_the_names_of_the_directory_are_those_of_slabinfo() -> None:
    """/proc/slabinfo shows one name of each cache; every one is a directory or a link."""
    listed = {entry.path for entry in parse_directory(capture("sys-kernel-slab-linux-6.18.txt"), source="x")}
    rows = {row.name for row in parse_slabinfo(slabinfo_capture(), source="x")}

    assert len(rows - listed) < len(rows) // 20, "captured at another time, but of the same kernel"
