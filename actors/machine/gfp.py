"""The GFP flags that matter for the lifecycle. include/linux/gfp.h @5.3."""

from __future__ import annotations

import enum

from actors.machine.flags import Flags


class Gfp(Flags):
    """The permissions and demands of an allocation."""

    NOWAIT = 0
    DIRECT_RECLAIM = enum.auto()
    FS = enum.auto()
    ACCOUNT = enum.auto()
    NORETRY = enum.auto()
    NOFAIL = enum.auto()
    ZERO = enum.auto()


GFP_KERNEL = Gfp.DIRECT_RECLAIM | Gfp.FS

GFP_KERNEL_ACCOUNT = GFP_KERNEL | Gfp.ACCOUNT

GFP_NOWAIT = Gfp.NOWAIT

GFP_ATOMIC = Gfp.NOWAIT

_DIRECT_RECLAIM = Gfp.DIRECT_RECLAIM  # a look-up of the member in its class is slower than the rest of an allocation


def gfpflags_allow_blocking(gfp: Gfp) -> bool:
    """Whether the caller may sleep."""
    return _DIRECT_RECLAIM in gfp
