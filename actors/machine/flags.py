"""Sets of flags, as the kernel keeps them in one word."""

from __future__ import annotations

import enum


class Flags(enum.Flag):
    """An enum.Flag whose `in` does without enum's checks: every allocation asks a few times."""

    def __contains__(self, flag: object) -> bool:
        value: int = flag._value_  # type: ignore[attr-defined]  # nobody asks for anything but flags
        return self._value_ & value == value
