"""Flows, the execution contexts that run kernel code, and the seam: the operations they may await.

A flow is a task in a syscall, a kworker, the softirq or the hard IRQ handler of a CPU, or a kthread that is bound to no
CPU of the model. Its code between two awaits is atomic. It awaits

    ask(operation, *args)     an access to state that an actor owns: request and reply; one step
    this_cpu(target, info)    the point before an access to per-CPU data of its own CPU; one step
    sleep(ns), stall(ns)      a timer; `stall` is a delay, not a sleep: no might_sleep() check, no worker hand-over
    sleep_in_background(ns)   a sleep of periodic housekeeping, for which quiescence does not wait
    migrate(cpu)              a move to another CPU
    choose(n)                 a choice of the environment among n possibilities
    settle()                  quiescence: nothing else in the machine can happen (scenarios only)

and nothing else. The preemption point comes *before* the access: a value that a flow read before an await may be stale
after it.
"""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

import attrs

from actors.system.actor import Shared
from actors.system.lane import RESUMERS, SEAM, Lane
from protocol.messages import Request
from protocol.operations import ATOMIC_NS, READ, UPDATE, OperationInfo

if TYPE_CHECKING:
    from actors.system.cpu import Cpu

P = ParamSpec("P")
R = TypeVar("R")

BEGIN = OperationInfo("begin", READ, cost=ATOMIC_NS)
SLEEP = OperationInfo("sleep", READ, sleeps=True, cost=ATOMIC_NS)
BACKGROUND = OperationInfo("sleep", READ, sleeps=True, idle=True, cost=ATOMIC_NS)
STALL = OperationInfo("stall", READ, cost=ATOMIC_NS)
SETTLE = OperationInfo("settle", READ, sleeps=True, cost=ATOMIC_NS)
SPIN = OperationInfo("spin", READ, cost=ATOMIC_NS)
MIGRATE = OperationInfo("migrate", READ, cost=ATOMIC_NS)
CHOOSE = OperationInfo("choose", READ, cost=ATOMIC_NS)

LONGEST_SLEEP = 1 << 56
"""In ns: more than two years. The clock of a run fits into 64 bits, for logs."""

MOST_CHOICES = 1 << 32


class Level(enum.IntEnum):
    """The contexts that a flow holds off; each level includes the lower ones.

    RCU flavours are consolidated since 5.0: a flow at any level but the lowest is an RCU reader.
    """

    NONE = 0
    READER = 1
    NO_PREEMPTION = 2
    NO_SOFTIRQS = 3
    NO_IRQS = 4


class Kind(enum.Enum):
    """The four execution contexts of KERNEL.md 0.2, and kthreads that the model binds to no CPU."""

    TASK = "T"
    KWORKER = "KW"
    SOFTIRQ = "SI"
    HARDIRQ = "HI"
    KTHREAD = "KT"


@attrs.define(eq=False)
class Section:
    """A `with` block during which one of the flow's counters is raised (IRQs off, preemption off, ...)."""

    enter: Callable[[], None]
    leave: Callable[[], None]

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *exc: object) -> Literal[False]:
        self.leave()
        return False


@attrs.define(eq=False)
class Flow(Lane):
    """One execution context, on one CPU at a time.

    `irqs_off` is a flag that a section saves and restores; the counters nest. Together they give the `level` of the
    flow's code. `held` is the level in force while the flow waits for its next step: the lowest since its last step.
    The reason is that a section begins where it stands in the code. Between the flow's last step (or the end of the
    section before) and the section there is a moment without it, in which other flows may run on the CPU and grace
    periods may begin. The section is in force from the flow's next step on (`enter_section`); until then the flow
    `is_entering` (ADR 11).

    `blocks` is the callback of the grace period that waits for this flow to leave its read-side section. `sections`
    counts how often it has left all its sections. `in_use` is the per-CPU data it uses while no other flow can access
    it.
    """

    kind: Kind
    cpu: Cpu | None = None
    ready: bool = attrs.field(default=False, init=False)
    request: Request = attrs.field(init=False)
    irqs_off: bool = attrs.field(default=False, init=False)
    softirqs_off: int = attrs.field(default=0, init=False)
    preempt_off: int = attrs.field(default=0, init=False)
    rcu_nesting: int = attrs.field(default=0, init=False)
    in_handler: bool = attrs.field(default=False, init=False)
    held: Level = attrs.field(default=Level.NONE, init=False)
    is_entering: bool = attrs.field(default=False, init=False)
    blocks: Callable[[Flow], None] | None = attrs.field(default=None, init=False)
    sections: int = attrs.field(default=0, init=False)
    in_use: dict[Shared, None] = attrs.field(factory=dict, init=False)
    _saved_irqs_off: list[bool] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.request = Request(flow=self)

    # -- the seam -----------------------------------------------------------------------------------------------------

    @types.coroutine
    def ask(self, op: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Generator[object, None, R]:
        """Send a request to the owner of the state that the bound operation *op* belongs to; return its reply."""
        request = self.request
        try:
            target = op.__self__  # type: ignore[attr-defined]  # operations are bound methods of Shared state
            info = op.operation  # type: ignore[attr-defined]  # set by protocol.operations.operation
        except AttributeError:
            if isinstance(op, types.CoroutineType):
                op.close()  # nothing awaits it
            msg = f"ask() takes an operation and its arguments, as ask(lock.acquire) does, not a {type(op).__name__}"
            raise TypeError(msg) from None
        request.op = op
        request.args = args
        request.options = kwargs
        request.info = info
        request.target = target
        request.actor = target.actor
        frame = sys._getframe(1)
        code = frame.f_code
        request.code = code if id(code) in self.world.function_ids else self.function_of(frame)
        if info.sleeps:
            self.might_sleep(info.name)
        if info.when is not None:
            request.awaited = info
            target.waiters += (self,)
            self.look_again(info.when(target, *args))
        yield SEAM
        return request.reply  # type: ignore[return-value]  # the reply of op

    @types.coroutine
    def this_cpu(self, target: Shared, info: OperationInfo) -> Generator[object, None, None]:
        """Preemption point before the next access to this CPU's own data of *target*.

        After it returns, the flow may be on another CPU than before, and may access that CPU's data until its next
        await.
        """
        self._stand_at(info, target, self.function_of(sys._getframe(1)))
        yield SEAM
        if target.freed is not None:
            self.world.raise_use_after_free(target)

    @types.coroutine
    def begin(self) -> Generator[object, None, None]:
        """Wait for the first step: a flow may access nothing shared before it."""
        self._stand_at(BEGIN, None, self.function_of(sys._getframe(1)))
        yield SEAM

    @types.coroutine
    def sleep(self, ns: int) -> Generator[object, None, None]:
        """Sleep for at least *ns* nanoseconds of virtual time."""
        check_number("nanoseconds to sleep", ns, 0, LONGEST_SLEEP)
        self._stand_at(SLEEP, None, self.function_of(sys._getframe(1)))
        self.might_sleep("sleep")
        self.set_ready(False)
        self.world.wake_at(self.world.now + ns, self)
        yield SEAM

    @types.coroutine
    def sleep_in_background(self, ns: int) -> Generator[object, None, None]:
        """Sleep like `sleep`, for periodic housekeeping: its timer does not delay quiescence or the end of the run."""
        self._stand_at(BACKGROUND, None, self.function_of(sys._getframe(1)))
        self.set_ready(False)
        self.world.wake_at(self.world.now + ns, self, background=True)
        yield SEAM

    @types.coroutine
    def stall(self, ns: int) -> Generator[object, None, None]:
        """Lose the CPU for *ns* nanoseconds, as to another task. This is a delay and not a sleep."""
        self._stand_at(STALL, None, self.function_of(sys._getframe(1)))
        self.set_ready(False)
        self.world.wake_at(self.world.now + ns, self)
        yield SEAM

    @types.coroutine
    def settle(self) -> Generator[object, None, None]:
        """Sleep until quiescence: no flow can step and no timer is pending."""
        self._stand_at(SETTLE, None, self.function_of(sys._getframe(1)))
        self.set_ready(False)
        self.world.settling.append(self)
        yield SEAM

    @types.coroutine
    def migrate(self, cpu: Cpu) -> Generator[object, None, None]:
        """Continue on *cpu*, once that CPU lets a task run; a flow that keeps other tasks off its own CPU stays."""
        self._stand_at(MIGRATE, None, self.function_of(sys._getframe(1)))
        if cpu is not self.cpu and not self.owns_cpu:
            self._move_to(cpu)
        yield SEAM

    @types.coroutine
    def choose(self, count: int) -> Generator[object, None, int]:
        """Let the strategy choose a number below *count*: the environment determines it, not the kernel."""
        self._stand_at(CHOOSE, None, self.function_of(sys._getframe(1)))
        check_number("choices", count, 1, MOST_CHOICES)
        yield SEAM
        return self.world.choose_value(count)

    def function_of(self, frame: types.FrameType) -> types.CodeType:
        """The innermost kernel function that *frame* runs in; without one, the function of *frame* itself."""
        known = self.world.function_ids
        caller: types.FrameType | None = frame
        while caller is not None:
            code = caller.f_code
            if id(code) in known:
                return code
            caller = caller.f_back if id(code) not in RESUMERS else None
        return frame.f_code

    def _stand_at(self, info: OperationInfo, target: Shared | None, code: types.CodeType) -> None:
        request = self.request
        request.op = request.actor = None
        request.info = info
        request.target = target
        request.code = code

    # -- enabled or not -----------------------------------------------------------------------------------------------

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 -- a state, not an option
        """Set whether the pending request could be handled now; the CPU's rules apply in addition."""
        if ready == self.ready:
            return
        self.ready = ready
        if ready:
            self.ready_at = self.world.ready_time(self.request.info.latency)
        if self.cpu is None:
            self.world.mask ^= self.bit
        else:
            self.cpu.ready ^= self.bit
            self.cpu.refresh()

    def look_again(self, possible: bool) -> None:  # noqa: FBT001 -- a state, not an option
        """Set whether the condition of the pending request holds now.

        A flow that is about to enter a section can enter it without the condition. It then spins there and holds its
        CPU.
        """
        if self.is_entering:
            self.request.info = self.request.awaited if possible else SPIN
            self.set_ready(True)
        else:
            self.set_ready(possible)

    def spin(self) -> None:
        """Wait for the condition of the pending request: the step before only entered the section."""
        self.request.info = self.request.awaited
        self.set_ready(False)

    def _move_to(self, cpu: Cpu) -> None:
        assert self.cpu is not None, f"{self.name} is bound to no CPU"
        if self.ready:
            self.cpu.ready ^= self.bit
            cpu.ready ^= self.bit
        old, self.cpu = self.cpu, cpu
        old.refresh()
        cpu.refresh()
        self.world.moved(self)

    def push_to(self, cpu: Cpu) -> bool:
        """Let the running flow move this one to *cpu*, as load balancing may; False if this flow holds its own CPU.

        A flow that is about to enter a section does not hold it yet.
        """
        if self.world.on_touch is not None:
            self.world.on_touch((self, UPDATE))
        if self.finished or self.held >= Level.NO_PREEMPTION:
            return False
        if cpu is not self.cpu:
            self._move_to(cpu)
        return True

    # -- contexts -----------------------------------------------------------------------------------------------------

    @property
    def owns_cpu(self) -> bool:
        """Whether no task can take the CPU from this flow now; it may then access all of the CPU's own data."""
        return bool(self.irqs_off or self.softirqs_off or self.preempt_off or self.in_handler)

    @property
    def is_atomic(self) -> bool:
        """Whether this flow must not sleep now."""
        return bool(self.irqs_off or self.softirqs_off or self.preempt_off or self.rcu_nesting or self.in_handler)

    def might_sleep(self, name: str) -> None:
        """Report `atomic-sleep` if this flow must not sleep; like the kernel, continue afterwards."""
        if self.is_atomic:
            self.world.report(
                "atomic-sleep",
                name,
                f"BUG: sleeping function called from invalid context: {name}",
                f"irqs_off={self.irqs_off} softirqs_off={self.softirqs_off} preempt_off={self.preempt_off} "
                f"rcu_nesting={self.rcu_nesting} in_handler={self.in_handler}",
                flow=self,
            )

    @property
    def rcu_read_section(self) -> Section:
        """A block between rcu_read_lock() and rcu_read_unlock()."""
        return Section(self.rcu_read_lock, self.rcu_read_unlock)

    @property
    def irq_section(self) -> Section:
        """A block between local_irq_save() and local_irq_restore()."""
        return Section(self._enter_irq_section, self._leave_irq_section)

    @property
    def preempt_section(self) -> Section:
        """A block between preempt_disable() and preempt_enable()."""
        return Section(self.preempt_disable, self.preempt_enable)

    def forget_rcu(self) -> None:
        """exit_rcu(): a task that ends inside a read-side section leaves it."""
        if self.rcu_nesting:
            self.rcu_nesting = 1
            self.rcu_read_unlock()

    def rcu_read_lock(self) -> None:
        self.rcu_nesting += 1
        self._begin_section()

    def rcu_read_unlock(self) -> None:
        self.rcu_nesting -= 1
        self._end_section()

    def local_irq_disable(self) -> None:
        self.irqs_off = True
        self._begin_section()

    def local_irq_enable(self) -> None:
        """Switch IRQs on, unconditionally. The irqsave forms restore the old state instead."""
        self.irqs_off = False
        self._end_section()

    def local_irq_save(self) -> bool:
        """Switch IRQs off; return the flags for local_irq_restore()."""
        flags = self.irqs_off
        self.local_irq_disable()
        return flags

    def local_irq_restore(self, flags: bool) -> None:  # noqa: FBT001 -- the C signature
        if not flags:
            self.local_irq_enable()

    def _enter_irq_section(self) -> None:
        self._saved_irqs_off.append(self.local_irq_save())

    def _leave_irq_section(self) -> None:
        self.local_irq_restore(self._saved_irqs_off.pop())

    def preempt_disable(self) -> None:
        self.preempt_off += 1
        self._begin_section()

    def preempt_enable(self) -> None:
        self.preempt_off -= 1
        self._end_section()

    def local_bh_disable(self) -> None:
        self.softirqs_off += 1
        self._begin_section()

    def local_bh_enable(self) -> None:
        self.softirqs_off -= 1
        self._end_section()

    def begin_handler(self) -> None:
        """Enter the softirq or hard IRQ handler of the CPU, within the step of its arrival."""
        self.in_handler = True
        assert self.cpu is not None
        if self.kind is Kind.SOFTIRQ:
            self.cpu.in_softirq = True
        else:
            self.cpu.in_hardirq = True
        self.enter_section()

    def end_handler(self) -> None:
        """Return from the handler."""
        self.in_handler = False
        assert self.cpu is not None
        self.cpu.is_stale = True
        if self.kind is Kind.SOFTIRQ:
            self.cpu.in_softirq = False
        else:
            self.cpu.in_hardirq = False
        self.in_use.clear()
        self._end_section()

    def _level(self) -> Level:
        """The level of the flow's code."""
        if self.irqs_off or (self.in_handler and self.kind is Kind.HARDIRQ):
            return Level.NO_IRQS
        if self.softirqs_off or self.in_handler:
            return Level.NO_SOFTIRQS
        if self.preempt_off:
            return Level.NO_PREEMPTION
        return Level.READER if self.rcu_nesting else Level.NONE

    def _begin_section(self) -> None:
        """A section begins in the code; it is in force from the next step on."""
        self.is_entering = self._level() > self.held

    def enter_section(self) -> None:
        """Raise `held` to the level of the code: a pending section is in force from the step that begins now."""
        self.is_entering = False
        self.held = self._level()
        cpu = self.cpu
        if cpu is not None and self.held >= Level.NO_PREEMPTION:
            cpu.is_stale = True
            if not self.in_handler:
                holder = cpu.holder
                assert holder is None or holder is self, f"{self.name} runs, but {holder.name} holds the CPU"
                cpu.holder = self

    def _end_section(self) -> None:
        """A section ends. Other flows may run now, even if the next section begins before the flow's next step."""
        level = self._level()
        self.is_entering = level > self.held
        if level < self.held:
            was, self.held = self.held, level
            if was >= Level.NO_PREEMPTION:
                self._release_cpu()
            if level == Level.NONE:
                self._left_all()

    def _release_cpu(self) -> None:
        """Release the CPU as far as the level in force allows."""
        cpu = self.cpu
        if cpu is None:
            return
        cpu.is_stale = True
        if self.held < Level.NO_PREEMPTION and cpu.holder is self:
            cpu.holder = None
            self.in_use.clear()

    def _left_all(self) -> None:
        """Count that this reader left all its sections, and tell the grace period that waits for it, if any."""
        self.sections += 1
        if self.blocks is not None:
            self.blocks(self)

    # -- this CPU's data ----------------------------------------------------------------------------------------------

    def use(self, thing: Shared) -> None:
        """Record an access to *thing*, data of this flow's CPU; it stays in use until the flow releases the CPU.

        Before the first step of a section the call only marks *thing* as in use: the access belongs to that step.
        """
        if self.world.on_touch is not None:
            if not self.is_entering:
                self.world.on_touch((thing, UPDATE))
            if self.owns_cpu:
                self.in_use[thing] = None

    def use_part(self, thing: Shared) -> None:
        """Record an access to this CPU's part of *thing*; other CPUs access their own parts independently."""
        if self.world.on_touch is not None and self.cpu is not None:
            self.world.on_touch((thing, READ))
            self.world.on_touch(((thing, self.cpu.id), UPDATE))


def check_number(what: str, number: object, least: int, most: int) -> None:
    """ValueError unless *number* is a whole number from *least* to *most*."""
    if not (isinstance(number, int) and least <= number <= most):
        msg = f"the number of {what} is {number!r:.40}: give a whole number from {least} to {most}"
        raise ValueError(msg)
