"""A schedule as data: the choices of a run's race, by names.

A schedule lists the choices in their order: the name of the lane that stepped, or a number that the environment chose.
Names outlive edits of the kernel elsewhere, and a schedule can be cut down: `explorer.schedule` says which order takes
over where choices are left out.
"""

from __future__ import annotations

from typing import TypeAlias

Choice: TypeAlias = str | int
Schedule: TypeAlias = tuple[Choice, ...]
