"""What stands for an object of a machine where Python asks for its repr: in tracebacks, failed tests, a debugger."""

from __future__ import annotations


class Named:
    """An object whose repr is its kind and its name.

    What attrs makes of it instead follows every pointer, and from each object the whole machine can be reached: that
    takes for ever. attrs writes its repr into each class that it makes, so it is replaced in each of them.
    """

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__repr__ = Named.__repr__  # type: ignore[method-assign]  # attrs has put its own there

    def __repr__(self) -> str:
        name = getattr(self, "label", None) or getattr(self, "name", "")
        return f"<{type(self).__name__} {name}>" if name else f"<{type(self).__name__}>"
