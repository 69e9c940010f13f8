"""The error numbers that modelled code distinguishes. include/uapi/asm-generic/errno-base.h."""

from __future__ import annotations

ENOMEM = 12

EEXIST = 17
