"""Files that are shown record by record. fs/seq_file.c @5.3.1.

The records lie between start() and stop(), which take and drop whatever lock protects them. One read(2) shows as many
as fit into the buffer, a page; the next one takes up where it left off, by the record's number. So a reader of a long
file lets go of the lock again and again, and what comes or goes meanwhile moves the records under its feet: some may be
shown twice, or not at all. A record that is larger than the buffer is shown again into one of twice the size.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, Literal, TypeVar

import attrs

from actors.machine.context import Context
from actors.versions.kernel_fn import kernel_fn
from protocol.formats.slabinfo import PAGE_SIZE

T = TypeVar("T")


@attrs.frozen
class SeqOperations(Generic[T]):
    """struct seq_operations: `start` at record `index` and `next` return None behind the last one."""

    start: Callable[[Context, SeqFile[T]], Awaitable[T | None]]
    next: Callable[[Context, SeqFile[T]], Awaitable[T | None]]
    stop: Callable[[Context, SeqFile[T]], Awaitable[None]]
    show: Callable[[Context, SeqFile[T], T], Awaitable[None]]


@attrs.define(eq=False)
class SeqFile(Generic[T]):
    """struct seq_file: one open file. `index` is the next record, `buffer` what was shown and not yet read.

    `records` are those of the section that is being read; the lock taken by start() keeps them as they are.
    """

    op: SeqOperations[T]
    index: int = 0
    size: int = PAGE_SIZE
    buffer: bytearray = attrs.field(factory=bytearray)
    records: tuple[T, ...] = ()

    @property
    def has_overflowed(self) -> bool:
        """seq_has_overflowed(): a full buffer may have cut something off."""
        return len(self.buffer) >= self.size

    def seq_puts(self, text: str) -> None:
        """Show *text*."""
        self.buffer += text.encode()

    def seq_list_start(self, records: tuple[T, ...]) -> T | None:
        """The record at `index`, of those there are now."""
        self.records = records
        return records[self.index] if self.index < len(records) else None

    def seq_list_next(self) -> T | None:
        self.index += 1
        return self.seq_list_start(self.records)

    def take(self, size: int) -> bytes:
        """copy_to_user(): up to *size* bytes of what was shown."""
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken


@kernel_fn("seq_read", "fs/seq_file.c")
async def seq_read(ctx: Context, m: SeqFile[T], size: int) -> bytes:
    """One read(2) of up to *size* bytes: what is left of the last one, then one section; nothing at the end."""
    taken = m.take(size)
    if len(taken) < size:
        await show_section(ctx, m, size - len(taken))
        taken += m.take(size - len(taken))
    return taken


async def show_section(ctx: Context, m: SeqFile[T], size: int) -> None:
    """One record, in a buffer as large as that takes; then as many as fit, until there are *size* bytes."""
    p = await m.op.start(ctx, m)
    while p is not None:
        await m.op.show(ctx, m, p)
        if not m.buffer:
            p = await m.op.next(ctx, m)
        elif m.has_overflowed:
            await m.op.stop(ctx, m)
            m.buffer.clear()
            m.size *= 2
            p = await m.op.start(ctx, m)
        else:
            await show_more(ctx, m, size)
            break
    await m.op.stop(ctx, m)


async def show_more(ctx: Context, m: SeqFile[T], size: int) -> None:
    """The label Fill of seq_read(); a record that does not fit comes with the next read."""
    while (p := await m.op.next(ctx, m)) is not None and len(m.buffer) < size:
        shown = len(m.buffer)
        await m.op.show(ctx, m, p)
        if m.has_overflowed:
            del m.buffer[shown:]
            break


async def read_whole(ctx: Context, m: SeqFile[T], size: int = PAGE_SIZE) -> bytes:
    """read(2) with *size* bytes of room, until nothing comes any more."""
    data = bytearray()
    while chunk := await seq_read(ctx, m, size):
        data += chunk
    return bytes(data)


# -- files of one record ----------------------------------------------------------------------------------------------

Whole = Literal["all of it"]

Show = Callable[[Context, "SeqFile[Whole]"], Awaitable[None]]


def single_open(show: Show) -> SeqFile[Whole]:
    """A file that *show* shows in one go: all of it again, if it did not fit."""

    async def start(_ctx: Context, m: SeqFile[Whole]) -> Whole | None:
        return m.seq_list_start(("all of it",))

    async def go_on(_ctx: Context, m: SeqFile[Whole]) -> Whole | None:
        return m.seq_list_next()

    async def stop(_ctx: Context, _m: SeqFile[Whole]) -> None:
        """Nothing was taken."""

    async def show_all(ctx: Context, m: SeqFile[Whole], _all: Whole) -> None:
        await show(ctx, m)

    return SeqFile(SeqOperations(start, go_on, stop, show_all))
