"""Sets of flags, which the kernel keeps in one word."""

from __future__ import annotations

import enum


class Flags(enum.Flag):
    """An enum.Flag whose `in` skips the checks of enum: every allocation tests several flags."""

    def __contains__(self, flag: object) -> bool:
        value: int = flag._value_  # type: ignore[attr-defined]  # callers pass flags only
        return self._value_ & value == value
