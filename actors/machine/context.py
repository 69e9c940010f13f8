"""The execution context as kernel code uses it, with WARN_ON, BUG_ON and pointer dereference."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn, TypeVar

import attrs

from actors.machine.list_head import ListEntry
from actors.system.actor import Shared
from actors.system.flow import Flow, Section
from protocol.findings import Oops
from protocol.operations import UPDATE

if TYPE_CHECKING:
    from actors.linux.init.machine import Machine
    from actors.linux.kernel.locking.lockdep import HeldLock
    from actors.linux.kernel.locking.locks import Completion
    from actors.linux.kernel.signal import Sighand
    from actors.linux.mm.memcontrol import Memcg
    from actors.linux.mm.obj_cgroup import TaskObjcg
    from actors.system.cpu import Cpu

T = TypeVar("T")


@attrs.define(eq=False)
class Context(Flow):
    """One execution context of a machine.

    `memcg` is the cgroup of the task (None: the root cgroup). `active_memcg` is the cgroup that the task charges in
    place of its own (memalloc_use_memcg()). `objcg` is the obj_cgroup of a task, from 6.12 on. A task that `is_exiting`
    cannot be moved to another cgroup (PF_EXITING). `sighand` has its signals, if it was sent any. `parent_waits` is
    completed when its parent hears of its end. Kernel threads and handlers have no mm, so they never allocate from
    child caches. `cpus_allowed` are the CPUs to which the scheduler may move the task when it sleeps. `held_locks`
    belongs to lockdep, oldest first.
    """

    machine: Machine = attrs.field(kw_only=True)
    has_mm: bool = attrs.field(default=False, kw_only=True)
    cpus_allowed: tuple[Cpu, ...] = attrs.field(default=(), kw_only=True)
    memcg: Memcg | None = attrs.field(default=None, init=False)
    active_memcg: Memcg | None = attrs.field(default=None, init=False)
    objcg: TaskObjcg | None = attrs.field(default=None, init=False)
    sighand: Sighand | None = attrs.field(default=None, init=False)
    is_exiting: bool = attrs.field(default=False, init=False)
    parent_waits: Completion | None = attrs.field(default=None, init=False)
    held_locks: list[HeldLock] = attrs.field(factory=list, init=False)
    _saved_cpus: list[tuple[Cpu, ...]] = attrs.field(factory=list, init=False)

    @property
    def smp_processor_id(self) -> int:
        """The number of the CPU this flow runs on; stale after the next await, unless preemption is off."""
        assert self.cpu is not None, f"{self.name} is bound to no CPU"
        return self.cpu.id

    @property
    def numa_node(self) -> int:
        """numa_node_id(): the node of that CPU."""
        return self.machine.node_of_cpu(self.smp_processor_id)

    def begin_exit(self) -> None:
        """exit_signals(): set PF_EXITING; only the task itself does so."""
        self.is_exiting = True

    def local_irq_enable(self) -> None:
        super().local_irq_enable()
        if self.held_locks:
            self.machine.lockdep.irqs_enabled(self)

    @property
    def migrate_section(self) -> Section:
        """A block between migrate_disable() and migrate_enable(): the task may be preempted, and stays on its CPU."""
        return Section(self._migrate_disable, self._migrate_enable)

    def _migrate_disable(self) -> None:
        assert self.cpu is not None, f"{self.name} is bound to no CPU"
        self._saved_cpus.append(self.cpus_allowed)
        self.cpus_allowed = (self.cpu,)

    def _migrate_enable(self) -> None:
        self.cpus_allowed = self._saved_cpus.pop()

    def kfree(self, *parts: Shared | None) -> None:
        """Free an object with the parts embedded in it; every later request to one of them is a use-after-free.

        Freeing a lock that the flow itself holds is reported at once (debug_check_no_locks_freed()).
        """
        function = self.function_of(sys._getframe(1)).co_name
        freed = f"{function}() in {self.name}, step {self.world.step}"
        for part in parts:
            if part is not None:
                if part.is_held_by(self):
                    self.world.report("lockdep", f"held {part.label} freed", "WARNING: held lock freed!", flow=self)
                part.touch(UPDATE)
                part.freed = freed
                if isinstance(part, ListEntry) and part.free_links():
                    self.machine.freed_on_lists.append(part)


def WARN_ON(ctx: Context, condition: object, text: str) -> bool:
    """Report a kernel warning if *condition* holds and continue, as the kernel does; return the condition."""
    if condition:
        ctx.world.report("warn", text, f"WARNING: {text}", flow=ctx)
    return bool(condition)


def BUG_ON(ctx: Context, condition: object, text: str) -> None:
    """Kill this flow if *condition* holds. VM_BUG_ON() too: the model is built with CONFIG_DEBUG_VM."""
    if condition:
        bug(ctx, text)


def bug(_ctx: Context, text: str) -> NoReturn:
    raise Oops("bug", text, f"kernel BUG: {text}")


def deref(pointer: T | None, text: str) -> T:
    """Return *pointer*; NULL kills the flow. *text* is the C expression."""
    if pointer is None:
        raise Oops("null-deref", text, f"BUG: kernel NULL pointer dereference: {text}")
    return pointer
