"""Linked lists whose links are in the elements: include/linux/list.h, with CONFIG_DEBUG_LIST.

Whoever links an element, unlinks one or walks along a list reads and writes the links of the elements beside it. So an
element that is freed while it is on a list is found by whoever comes next to it, and not only by whoever wants it. Here
the elements know which lists they are on, and freeing one tells those lists; a list that holds no freed memory, as all
should, is as fast as a dict.

The ledger looks from outside: that it iterates over a list, or asks what is on it, is no access.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs

from actors.system.actor import Shared
from protocol.findings import Oops
from protocol.operations import UPDATE

if TYPE_CHECKING:
    from collections.abc import Iterator


class Linkable(Protocol):
    """What can be on a list: an object with a list_head inside, or something that stands for such a list_head."""

    @property
    def memory(self) -> ListEntry:
        """The object around the list_head: with that it is freed."""


T = TypeVar("T", bound=Linkable)


@attrs.define(eq=False)
class ListEntry(Shared):
    """Shared state with list_heads inside; `on_lists` are the lists that it is linked into."""

    on_lists: list[ListHead[Any]] = attrs.field(factory=list, init=False)

    @property
    def memory(self) -> ListEntry:
        """Itself."""
        return self

    def touch_links(self) -> None:
        """Say that this step accesses its list_heads: of all other steps only those meet it that do so, or free it."""
        on_touch = self.actor.world.on_touch
        if on_touch is not None:
            on_touch((self, "list_head"), UPDATE)

    def free_links(self) -> bool:
        """It is being freed: from now on who comes beside it on a list uses freed memory. True if it is on one."""
        self.touch_links()
        for head in self.on_lists:
            head.freed += 1
            head.touch()
        return bool(self.on_lists)


class ListHead(OrderedDict[T, None]):
    """struct list_head as the head of a list, with what is on it, head first.

    It is inside `owner`, whose `part` its operations access; a flow's private list is nobody's. `freed` is how many of
    the elements are freed.
    """

    __slots__ = ("freed", "owner", "part")
    __hash__ = object.__hash__  # type: ignore[assignment]  # a list is itself alone, whatever is on it
    __eq__ = object.__eq__

    def __init__(self, owner: Shared | None = None, part: str = "") -> None:
        super().__init__()
        self.owner = owner
        self.part = part
        self.freed = 0

    @property
    def label(self) -> str:
        """What reports call it."""
        return "a private list" if self.owner is None else f"a list of {self.owner.label}"

    def touch(self) -> None:
        """Say that the step that runs changes the list, besides what it asked for."""
        if self.owner is not None:
            self.owner.touch_part(self.part, UPDATE)

    # -- the kernel's operations --------------------------------------------------------------------------------------

    def list_add(self, entry: T) -> None:
        """Link *entry* at the head."""
        if self.freed:
            use(next(iter(self)))
        self._link(entry)
        self.move_to_end(entry, last=False)

    def list_add_tail(self, entry: T) -> None:
        """Link *entry* at the end."""
        if self.freed:
            use(next(reversed(self)))
        self._link(entry)

    def _link(self, entry: T) -> None:
        memory = entry.memory
        if memory.freed is not None:
            use(entry)
        if entry in self:
            raise corruption("list_add", entry)
        memory.on_lists.append(self)
        self[entry] = None
        on_touch = memory.actor.world.on_touch  # as in touch_links(), without the call
        if on_touch is not None:
            on_touch((memory, "list_head"), UPDATE)

    def list_del(self, entry: T) -> None:
        """Unlink *entry*; what is not on the list corrupts it."""
        if self.freed or entry not in self:
            self._check_links(entry)
        memory = entry.memory
        memory.on_lists.remove(self)
        del self[entry]
        on_touch = memory.actor.world.on_touch
        if on_touch is not None:
            on_touch((memory, "list_head"), UPDATE)

    def list_move_tail(self, entry: T) -> None:
        """Unlink *entry* and link it at the end."""
        if self.freed or entry not in self:
            self.list_del(entry)
            self.list_add_tail(entry)
        else:
            self.move_to_end(entry)
            entry.memory.touch_links()

    def list_splice_init(self, source: ListHead[T]) -> None:
        """Take all that is on *source*, in front of what there is."""
        if source and self.freed:
            use(next(iter(self)))
        self.freed += source.freed
        for entry in reversed(source.take_all()):
            entry.memory.on_lists.append(self)
            self[entry] = None
            self.move_to_end(entry, last=False)

    def take_all(self) -> tuple[T, ...]:
        """list_splice_init() to a list that only the caller knows: the links within stay as they are."""
        if self.freed:
            use(next(iter(self)))
            use(next(reversed(self)))
        entries = tuple(self)
        for entry in entries:
            entry.memory.touch_links()
            entry.memory.on_lists.remove(self)
        self.clear()
        self.freed = 0
        return entries

    def reorder(self, order: tuple[T, ...]) -> None:
        """Move the elements, one after the other, until they stand in that *order*."""
        for entry in order:
            if self.freed:
                self._check_links(entry)
            self.move_to_end(entry)

    def walk(self) -> tuple[T, ...]:
        """list_for_each(): all elements, each found by the links of the one before."""
        if self.freed:
            for entry in self:
                use(entry)
        return tuple(self)

    def list_first_entry(self) -> T | None:
        """The element at the head; its list_head is not looked at."""
        return next(iter(self), None)

    def list_last_entry(self) -> T | None:
        """The element at the end; its list_head is not looked at."""
        return next(reversed(self), None)

    def list_next_entry(self, entry: T) -> T | None:
        """The element behind *entry*, None at the end."""
        use(entry)
        entries = iter(self)
        for other in entries:
            if other is entry:
                break
        return next(entries, None)

    # -- in slow motion -----------------------------------------------------------------------------------------------

    def _check_links(self, entry: T) -> None:
        """__list_del_entry_valid(): read the element, then the two that it stands between."""
        use(entry)
        if entry not in self:
            raise corruption("list_del", entry)
        for beside in self._beside(entry):
            use(beside)

    def _beside(self, entry: T) -> Iterator[T]:
        entries = list(self)
        at = entries.index(entry)
        if at:
            yield entries[at - 1]
        yield from entries[at + 1 : at + 2]


def use(entry: Linkable) -> None:
    """Look at the links of *entry*: the flow dies if that is freed memory."""
    memory = entry.memory
    if memory.freed is not None:
        memory.actor.world.raise_use_after_free(memory)


def corruption(what: str, entry: Linkable) -> Oops:
    """CONFIG_DEBUG_LIST: the links around *entry* do not fit."""
    return Oops("bug", f"{what} corruption", f"kernel BUG: {what} corruption: {entry.memory.label}")
