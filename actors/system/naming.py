"""A short repr for simulated objects: class and label, never the whole object graph."""

from __future__ import annotations


class Named:
    """An object whose repr is its class and its name.

    The repr of attrs follows every pointer, and every object reaches the whole machine: such a repr does not end. attrs
    writes a repr into each class that it makes, so it is replaced in each subclass.
    """

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__repr__ = Named.__repr__  # type: ignore[method-assign]  # attrs has put its own there

    def __repr__(self) -> str:
        name = getattr(self, "label", None) or getattr(self, "name", "")
        return f"<{type(self).__name__} {name}>" if name else f"<{type(self).__name__}>"
