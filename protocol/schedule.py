"""A schedule as data: the choices of a run's race, by name.

A schedule lists the choices in order: the name of the lane that stepped, or a number that the environment chose. Names
survive unrelated edits of the kernel. A schedule can be shortened: `explorer.schedule` defines the order that replaces
choices left out.
"""

from __future__ import annotations

from typing import TypeAlias

Choice: TypeAlias = str | int
Schedule: TypeAlias = tuple[Choice, ...]
