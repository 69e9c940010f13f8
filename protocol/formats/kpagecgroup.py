"""/proc/kpagecgroup: for each page frame, the inode number of the cgroup to which it is charged; binary.

fs/proc/page.c: kpagecgroup_read(), Documentation/admin-guide/mm/pagemap.rst @5.3.1; KERNEL.md 10.6. The file is an
array of unsigned 64-bit numbers in the machine's byte order (here little-endian), indexed by page frame number; 0 is a
page without a charge.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from protocol.errors import UsageError

ENTRY_BYTES = 8


def pack_kpagecgroup(inodes: Sequence[int]) -> bytes:
    """The file for these page frames, from frame 0 on."""
    return struct.pack(f"<{len(inodes)}Q", *inodes)


def unpack_kpagecgroup(data: bytes, *, source: str) -> tuple[int, ...]:
    """The inode numbers by page frame; UsageError in one line if *data* does not consist of whole entries."""
    if len(data) % ENTRY_BYTES:
        msg = f"{source}: {len(data)} bytes do not divide into entries of {ENTRY_BYTES}; is this /proc/kpagecgroup?"
        raise UsageError(msg)
    return struct.unpack(f"<{len(data) // ENTRY_BYTES}Q", data)
