"""Short names for everything of a machine, so that a test that fails can say so.

What attrs makes of these objects follows every pointer, and from each of them the whole machine can be reached.
"""

from __future__ import annotations

from collections.abc import Iterator

from actors.kernel.list_lru import LruItem, LruList
from actors.kernel.machine import Machine
from actors.kernel.rcu import RcuHead
from actors.system.actor import Request, Shared
from actors.system.lane import Lane
from actors.system.world import World


def with_subclasses(*classes: type) -> Iterator[type]:
    """The classes and all that are derived from them."""
    for cls in classes:
        yield cls
        yield from with_subclasses(*cls.__subclasses__())


def short_repr(self: object) -> str:
    """The kind of object, and what it is called."""
    name = getattr(self, "label", None) or getattr(self, "name", "")
    return f"<{type(self).__name__} {name}>"


for found in with_subclasses(Shared, Lane, World, Machine, Request, RcuHead, LruItem, LruList):
    setattr(found, "__repr__", short_repr)  # noqa: B010 -- a plain assignment would be a type error
