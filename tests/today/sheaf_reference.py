"""A small model of 7.2's sheaves for one CPU, after KERNEL-7.2 N1 and N2 and without the kernel's code.

Objects are pairs `(slab, index)`. It says which object comes next. It does not follow the order in which objects go
back to slabs: after such a step it `is_lost` and is told the slabs again.
"""

from __future__ import annotations

import attrs

Obj = tuple[int, int]
LIMIT = 10


@attrs.define
class Reference:
    """`free` has the free objects of each slab in order, `partial` the slabs with some, the first one first."""

    capacity: int
    per_slab: int
    next_slab: int
    main: list[Obj] = attrs.field(factory=list)
    spare: list[Obj] | None = None
    rcu: list[Obj] | None = None
    full: list[list[Obj]] = attrs.field(factory=list)
    empty: int = 0
    free: dict[int, list[int]] = attrs.field(factory=dict)
    partial: list[int] = attrs.field(factory=list)
    is_lost: bool = False

    def alloc(self) -> Obj:
        if not self.main:
            if self.spare:
                self.main, self.spare = self.spare, self.main
            elif self.full:
                self.empty += 1
                self.main = self.full.pop()
            else:
                self._fill()
        return self.main.pop()

    def _fill(self) -> None:
        """Take an empty sheaf away, fill it, and use it; the old main becomes the spare one."""
        if self.spare is not None:
            self.spare = None
        elif self.empty:
            self.empty -= 1
        self.spare, self.main = self.main, self._from_slabs()

    def _from_slabs(self) -> list[Obj]:
        taken: list[Obj] = []
        chosen, total = [], 0
        while self.partial and total < self.capacity:
            chosen.append(self.partial.pop(0))
            total += len(self.free[chosen[-1]])
        for slab in chosen:
            here = self.free.pop(slab)
            room = self.capacity - len(taken)
            taken += [(slab, at) for at in here[:room]]
            if here[room:]:
                self.free[slab] = here[room:]
                self.partial.append(slab)
        while len(taken) < self.capacity:
            slab, self.next_slab = self.next_slab, self.next_slab + 1
            room = self.capacity - len(taken)
            taken += [(slab, at) for at in range(self.per_slab)][:room]
            if room < self.per_slab:
                self.free[slab] = list(range(room, self.per_slab))
                self.partial.insert(0, slab)
        return taken

    def give(self, obj: Obj) -> None:
        """kmem_cache_free()."""
        if len(self.main) == self.capacity:
            self._make_room()
        self.main.append(obj)

    def _make_room(self) -> None:
        if self.spare is None:
            self.empty -= self.empty > 0
            self.spare = self.main
        elif len(self.spare) < self.capacity:
            self.main, self.spare = self.spare, self.main
            return
        elif len(self.full) < LIMIT:
            self.empty -= self.empty > 0
            self.full.append(self.main)
        else:
            self.is_lost = True
            self.spare = self.main
        self.main = []

    def give_by_rcu(self, obj: Obj) -> None:
        """kfree_rcu(), and the grace period if the sheaf is full now."""
        if self.rcu is None:
            if self.spare == []:
                self.spare = None
            else:
                self.empty -= self.empty > 0
            self.rcu = []
        self.rcu.append(obj)
        if len(self.rcu) == self.capacity:
            if len(self.full) < LIMIT:
                self.full.append(self.rcu)
            else:
                self.is_lost = True
                self.empty += self.empty < LIMIT
            self.rcu = None

    def shrink(self) -> None:
        """All sheaves are empty, and those of the barn and the spare one are gone; the main one is not freed."""
        self.main, self.spare, self.rcu, self.full, self.empty = [], None, None, [], 0
        self.is_lost = True

    def learn(self, partial: dict[int, list[int]], next_slab: int) -> None:
        """The slabs on the list, in order, with their free objects."""
        self.partial, self.free, self.next_slab, self.is_lost = list(partial), dict(partial), next_slab, False
