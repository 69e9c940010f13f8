"""The crash reader: the content of a file on a stopped machine, read without a step and without a lock.

The readers of the files are the kernel's own functions (`kernel_files`). Here they run outside the machine and outside
its time. A read sees the present state, even in the middle of a locked section, and has no effect on the run.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import attrs

from actors.files.kernel_files import KernelFile, locate
from actors.linux.kernel.locking.lockdep import Lockdep
from actors.machine.context import Context
from actors.system.flow import Kind
from protocol.errors import InternalError
from protocol.operations import READ

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.kernel.cgroup.cgroup import Cgroup

P = ParamSpec("P")

R = TypeVar("R")

T = TypeVar("T")


@attrs.define(eq=False)
class CrashReader(Context):
    """A flow outside the machine: its requests are answered at once.

    Every lock counts as free, because no other flow runs. Its copy of the machine has a lockdep of its own, so the
    run's lockdep learns nothing from the read.
    """

    @classmethod
    def of(cls, machine: Machine) -> CrashReader:
        """A crash reader of *machine*."""
        seen = copy.copy(machine)
        seen.lockdep = Lockdep()
        return cls(machine.world, "crash reader", Kind.KTHREAD, machine=seen)

    @types.coroutine
    def ask(self, op: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Generator[object, None, R]:
        """Answer at once. A reader changes only locks and active references; those requests succeed without effect."""
        yield from ()
        if op.operation.access is not READ:  # type: ignore[attr-defined]  # as in Flow.ask
            return cast("R", True)
        return op(*args, **kwargs)


def look(machine: Machine, name: str) -> bytes:
    """The present content of the file that *name* means (see `kernel_files.locate`); UsageError if there is none."""
    return look_at(machine, *locate(machine, name))


def look_at(machine: Machine, file: KernelFile, cgroup: Cgroup) -> bytes:
    """The present content of *file* of *cgroup*."""
    read = file.look or file.read
    world = machine.world
    on_touch, world.on_touch = world.on_touch, None  # a watch of accesses must not take this read for a step
    try:
        return at_once(read(CrashReader.of(machine), cgroup)) or b""
    finally:
        world.on_touch = on_touch


def at_once(reading: Awaitable[T]) -> T:
    """Run a coroutine that never waits."""
    coro = cast("Coroutine[Any, Any, T]", reading)
    try:
        coro.send(None)
    except StopIteration as end:
        return cast("T", end.value)
    coro.close()
    msg = "the reader of a file waits for an operation that is neither a read nor a lock"
    raise InternalError(msg)
