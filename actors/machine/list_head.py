"""Linked lists whose links are in the elements: include/linux/list.h, with CONFIG_DEBUG_LIST.

Linking an element, unlinking it and walking along the list read and write the links of its neighbours. So an element
that is freed while it is on a list is found by the next operation beside it, not only by an operation on the element
itself. In the model, each element knows its lists, and freeing an element marks those lists. A list without freed
memory (the normal case) is as fast as a dict.

The shadow accounting observes from outside: its iteration over a list and its membership tests are no accesses.
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
    """A possible list element: an object with a list_head inside, or an object that represents such a list_head."""

    @property
    def memory(self) -> ListEntry:
        """The object that contains the list_head and is freed with it."""


T = TypeVar("T", bound=Linkable)


@attrs.define(eq=False)
class ListEntry(Shared):
    """Shared state with list_heads inside; `on_lists` are the lists on which it is linked."""

    on_lists: tuple[ListHead[Any], ...] = attrs.field(default=(), init=False)

    @property
    def memory(self) -> ListEntry:
        """The object itself: its list_heads are a part of it, and freed with it."""
        return self

    def touch_links(self) -> None:
        """Record an access of this step to the list_heads.

        It depends only on other accesses to them, and on the free of the object.
        """
        on_touch = self.actor.world.on_touch
        if on_touch is not None:
            on_touch(((self, "list_head"), UPDATE))

    def free_links(self) -> bool:
        """Mark the lists of an object that is being freed; True if it is on one.

        From now on an operation beside it on such a list is a use-after-free.
        """
        self.touch_links()
        for head in self.on_lists:
            head.freed += 1
            head.touch()
        return bool(self.on_lists)


class ListHead(OrderedDict[T, None]):
    """struct list_head as the head of a list, with its elements, head first.

    The head is inside `owner`; list operations access `part` of that owner. A flow's private list has no owner. `freed`
    is the number of elements whose memory is freed.
    """

    __slots__ = ("freed", "owner", "part")
    __hash__ = object.__hash__  # type: ignore[assignment]  # lists are compared by identity, not by content
    __eq__ = object.__eq__

    def __init__(self, owner: Shared | None = None, part: str = "") -> None:
        super().__init__()
        self.owner = owner
        self.part = part
        self.freed = 0

    @property
    def label(self) -> str:
        """The name of this list in reports."""
        return "a private list" if self.owner is None else f"a list of {self.owner.label}"

    def touch(self) -> None:
        """Record an extra access: the current step changes the list."""
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
        memory.on_lists += (self,)
        self[entry] = None
        on_touch = memory.actor.world.on_touch  # as in touch_links(), without the call
        if on_touch is not None:
            on_touch(((memory, "list_head"), UPDATE))

    def list_del(self, entry: T) -> None:
        """Unlink *entry*; a list without *entry* is corrupted."""
        if self.freed or entry not in self:
            self._check_links(entry)
        memory = entry.memory
        memory.on_lists = self._others_of(memory)
        del self[entry]
        on_touch = memory.actor.world.on_touch
        if on_touch is not None:
            on_touch(((memory, "list_head"), UPDATE))

    def list_move_tail(self, entry: T) -> None:
        """Unlink *entry* and link it at the end."""
        if self.freed or entry not in self:
            self.list_del(entry)
            self.list_add_tail(entry)
        else:
            self.move_to_end(entry)
            entry.memory.touch_links()

    def list_splice_init(self, source: ListHead[T]) -> None:
        """Move all elements of *source* to the front of this list."""
        if source and self.freed:
            use(next(iter(self)))
        self.freed += source.freed
        for entry in reversed(source.take_all()):
            entry.memory.on_lists += (self,)
            self[entry] = None
            self.move_to_end(entry, last=False)

    def take_all(self) -> tuple[T, ...]:
        """list_splice_init() to a list that is private to the caller: the inner links stay as they are."""
        if self.freed:
            use(next(iter(self)))
            use(next(reversed(self)))
        entries = tuple(self)
        for entry in entries:
            entry.memory.touch_links()
            entry.memory.on_lists = self._others_of(entry.memory)
        self.clear()
        self.freed = 0
        return entries

    def _others_of(self, memory: ListEntry) -> tuple[ListHead[Any], ...]:
        """The other lists on which *memory* is linked."""
        return tuple(head for head in memory.on_lists if head is not self)

    def reorder(self, order: tuple[T, ...]) -> None:
        """Move the elements one by one into the given *order*."""
        for entry in order:
            if self.freed:
                self._check_links(entry)
            self.move_to_end(entry)

    def walk(self) -> tuple[T, ...]:
        """list_for_each(): all elements, each reached through the links of the one before."""
        if self.freed:
            for entry in self:
                use(entry)
        return tuple(self)

    def list_first_entry(self) -> T | None:
        """The element at the head; its list_head is not accessed."""
        return next(iter(self), None)

    def list_last_entry(self) -> T | None:
        """The element at the end; its list_head is not accessed."""
        return next(reversed(self), None)

    def list_next_entry(self, entry: T) -> T | None:
        """The element behind *entry*, None at the end."""
        use(entry)
        entries = iter(self)
        for other in entries:
            if other is entry:
                break
        return next(entries, None)

    # -- with freed memory on the list --------------------------------------------------------------------------------

    def _check_links(self, entry: T) -> None:
        """__list_del_entry_valid(): read the element, then its two neighbours."""
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
    """Access the links of *entry*; if its memory is freed, the flow dies."""
    memory = entry.memory
    if memory.freed is not None:
        memory.actor.world.raise_use_after_free(memory)


def corruption(what: str, entry: Linkable) -> Oops:
    """The oops of CONFIG_DEBUG_LIST for inconsistent links around *entry*."""
    return Oops("bug", f"{what} corruption", f"kernel BUG: {what} corruption: {entry.memory.label}")
