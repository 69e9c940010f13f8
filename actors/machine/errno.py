"""Error numbers, as far as they are told apart. include/uapi/asm-generic/errno-base.h."""

from __future__ import annotations

ENOMEM = 12

EEXIST = 17
