"""Files that are shown record by record. fs/seq_file.c @5.3.1.

The records lie between start() and stop(), which take and drop the lock that protects them. One read(2) shows as many
records as fit into the buffer of one page. The next read continues at the next record's number. So a reader of a long
file releases the lock again and again, and records that are added or removed in between shift the numbers: some records
may be shown twice, or not at all. A record larger than the buffer is shown again, into a buffer of twice the size.
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
    """struct seq_operations: `start` (at record `index`) and `next` return None after the last record."""

    start: Callable[[Context, SeqFile[T]], Awaitable[T | None]]
    next: Callable[[Context, SeqFile[T]], Awaitable[T | None]]
    stop: Callable[[Context, SeqFile[T]], Awaitable[None]]
    show: Callable[[Context, SeqFile[T], T], Awaitable[None]]


@attrs.define(eq=False)
class SeqFile(Generic[T]):
    """struct seq_file: one open file. `index` is the next record; `buffer` holds text that was shown but not read yet.

    `records` are the records of the current section; the lock taken by start() keeps them unchanged.
    """

    op: SeqOperations[T]
    index: int = 0
    size: int = PAGE_SIZE
    buffer: bytearray = attrs.field(factory=bytearray)
    records: tuple[T, ...] = ()

    @property
    def has_overflowed(self) -> bool:
        """seq_has_overflowed(): a full buffer may have truncated the text."""
        return len(self.buffer) >= self.size

    def seq_puts(self, text: str) -> None:
        """Append *text* to the buffer."""
        self.buffer += text.encode()

    def seq_list_start(self, records: tuple[T, ...]) -> T | None:
        """The present record at `index`, or None after the last."""
        self.records = records
        return records[self.index] if self.index < len(records) else None

    def seq_list_next(self) -> T | None:
        self.index += 1
        return self.seq_list_start(self.records)

    def take(self, size: int) -> bytes:
        """copy_to_user(): up to *size* bytes of the buffer."""
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken


@kernel_fn("seq_read", "fs/seq_file.c")
async def seq_read(ctx: Context, m: SeqFile[T], size: int) -> bytes:
    """One read(2) of up to *size* bytes: the rest of the buffer, then one section; empty at the end."""
    taken = m.take(size)
    if len(taken) < size:
        await show_section(ctx, m, size - len(taken))
        taken += m.take(size - len(taken))
    return taken


async def show_section(ctx: Context, m: SeqFile[T], size: int) -> None:
    """Show one record, growing the buffer until it fits, then further records until there are *size* bytes."""
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
    """The label Fill of seq_read(); a record that does not fit waits for the next read."""
    while (p := await m.op.next(ctx, m)) is not None and len(m.buffer) < size:
        shown = len(m.buffer)
        await m.op.show(ctx, m, p)
        if m.has_overflowed:
            del m.buffer[shown:]
            break


async def read_whole(ctx: Context, m: SeqFile[T], size: int = PAGE_SIZE) -> bytes:
    """The whole file, by read(2) calls of *size* bytes."""
    data = bytearray()
    while chunk := await seq_read(ctx, m, size):
        data += chunk
    return bytes(data)


# -- files of one record ----------------------------------------------------------------------------------------------

Whole = Literal["all of it"]

Show = Callable[[Context, "SeqFile[Whole]"], Awaitable[None]]


def single_open(show: Show) -> SeqFile[Whole]:
    """A file that *show* shows in one call; if the text did not fit, the call is repeated."""

    async def start(_ctx: Context, m: SeqFile[Whole]) -> Whole | None:
        return m.seq_list_start(("all of it",))

    async def go_on(_ctx: Context, m: SeqFile[Whole]) -> Whole | None:
        return m.seq_list_next()

    async def stop(_ctx: Context, _m: SeqFile[Whole]) -> None:
        """No lock was taken."""

    async def show_all(ctx: Context, m: SeqFile[Whole], _all: Whole) -> None:
        await show(ctx, m)

    return SeqFile(SeqOperations(start, go_on, stop, show_all))
