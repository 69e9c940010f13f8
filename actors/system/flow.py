"""Flows run kernel code; the seam is what they may await.

A flow is one execution context: a task in a syscall, a kworker, the softirq or the hard IRQ handler of a
CPU, or a kthread that is bound to no CPU of the model. Between two awaits its code is atomic. It awaits

    ask(operation, *args)     an access to state that some actor owns: request, reply; one step
    this_cpu(target, name)    the point before an access to per-CPU data of its own CPU; one step
    sleep(ns), stall(ns)      a timer; the second without letting others know
    migrate(cpu)              to go on on another CPU
    choose(n)                 a choice of the environment among n possibilities
    settle()                  until nothing else in the machine can happen (scenarios only)

and nothing else. The preemption point comes *before* the access: what a flow has read before an await may be
stale after it.
"""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

import attrs

from actors.system.actor import Request, Shared
from actors.system.lane import RESUMERS, SEAM, Lane
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


class Level(enum.IntEnum):
    """What a flow keeps from happening; each level includes those below it.

    RCU flavours are consolidated since 5.0: at every level but the lowest a flow is a reader.
    """

    NONE = 0
    READER = 1
    NO_PREEMPTION = 2
    NO_SOFTIRQS = 3
    NO_IRQS = 4


class Kind(enum.Enum):
    """The four contexts of KERNEL.md 0.2, and kthreads that the model binds to no CPU."""

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

    `irqs_off` is a flag that a section saves and restores, the counters nest. Together they say at which `level` the
    code of the flow is. `held` is the level that others meet while the flow waits for its next step: the lowest since
    its last one. For a section begins where it stands: between the flow's last step (or the end of the section before)
    and the section there is a moment without, in which others may have the CPU and grace periods may begin. From the
    flow's next step on it holds (`enter_section`); until then the flow `is_entering` (ADR 11).

    `blocks` is the grace period that waits for this flow to leave its read-side section. `sections` counts how often
    it has left all of them; `in_use` is what it uses of its CPU's own data while nobody else can.
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
    rcu_read_section: Section = attrs.field(init=False)
    irq_section: Section = attrs.field(init=False)
    preempt_section: Section = attrs.field(init=False)
    _saved_irqs_off: list[bool] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.request = Request(flow=self)
        self.rcu_read_section = Section(self.rcu_read_lock, self.rcu_read_unlock)
        self.irq_section = Section(self._enter_irq_section, self._leave_irq_section)
        self.preempt_section = Section(self.preempt_disable, self.preempt_enable)

    # -- the seam -----------------------------------------------------------------------------------------------------

    @types.coroutine
    def ask(self, op: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Generator[object, None, R]:
        """Send a request to the owner of the state that the bound operation *op* belongs to; return its reply."""
        request = self.request
        target = op.__self__  # type: ignore[attr-defined]  # operations are bound methods of Shared state
        info = op.operation  # type: ignore[attr-defined]  # set by protocol.operations.operation
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
            target.waiters.append(self)
            self.look_again(info.when(target, *args))
        yield SEAM
        return request.reply  # type: ignore[return-value]  # the reply of op

    @types.coroutine
    def this_cpu(self, target: Shared, info: OperationInfo) -> Generator[object, None, None]:
        """Be preempted, if so chosen, before the next access to this CPU's data of *target*.

        After it returns the flow may be on another CPU than before, and may touch that CPU's data until its
        next await.
        """
        self._stand_at(info, target, self.function_of(sys._getframe(1)))
        yield SEAM
        if target.freed is not None:
            self.world.raise_use_after_free(target)

    @types.coroutine
    def begin(self) -> Generator[object, None, None]:
        """Wait to be chosen for the first time: nothing may be touched before that."""
        self._stand_at(BEGIN, None, self.function_of(sys._getframe(1)))
        yield SEAM

    @types.coroutine
    def sleep(self, ns: int) -> Generator[object, None, None]:
        """Sleep for *ns* nanoseconds of virtual time, at least."""
        self._stand_at(SLEEP, None, self.function_of(sys._getframe(1)))
        self.might_sleep("sleep")
        self.set_ready(False)
        self.world.wake_at(self.world.now + ns, self)
        yield SEAM

    @types.coroutine
    def sleep_in_background(self, ns: int) -> Generator[object, None, None]:
        """Sleep like `sleep`, for housekeeping: the machine may be at rest meanwhile, and end before this does."""
        self._stand_at(BACKGROUND, None, self.function_of(sys._getframe(1)))
        self.set_ready(False)
        self.world.wake_at(self.world.now + ns, self, background=True)
        yield SEAM

    @types.coroutine
    def stall(self, ns: int) -> Generator[object, None, None]:
        """Be kept from running for *ns* nanoseconds, as by somebody else who has the CPU; this is not a sleep."""
        self._stand_at(STALL, None, self.function_of(sys._getframe(1)))
        self.set_ready(False)
        self.world.wake_at(self.world.now + ns, self)
        yield SEAM

    @types.coroutine
    def settle(self) -> Generator[object, None, None]:
        """Sleep until nothing else can happen: no flow can step and no timer is pending."""
        self._stand_at(SETTLE, None, self.function_of(sys._getframe(1)))
        self.set_ready(False)
        self.world.settling.append(self)
        yield SEAM

    @types.coroutine
    def migrate(self, cpu: Cpu) -> Generator[object, None, None]:
        """Go on on *cpu*, once that CPU lets a task run; whoever keeps tasks off its own CPU stays there."""
        self._stand_at(MIGRATE, None, self.function_of(sys._getframe(1)))
        if cpu is not self.cpu and not self.owns_cpu:
            self._move_to(cpu)
        yield SEAM

    @types.coroutine
    def choose(self, count: int) -> Generator[object, None, int]:
        """Let the strategy choose a number below *count*: what the environment does here is not determined."""
        self._stand_at(CHOOSE, None, self.function_of(sys._getframe(1)))
        yield SEAM
        return self.world.choose_value(count)

    def function_of(self, frame: types.FrameType) -> types.CodeType:
        """The innermost kernel function that *frame* runs in; if it runs in none, the function itself."""
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
        """Say whether the pending request could be handled now; the CPU's rules come on top."""
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
        """The request waits for something, which has come true or not.

        A flow that is about to enter a section can do that in any case, and then spins there: it keeps others off.
        """
        if self.is_entering:
            self.request.info = self.request.awaited if possible else SPIN
            self.set_ready(True)
        else:
            self.set_ready(possible)

    def spin(self) -> None:
        """The step was only to enter the section: go on once what the request waits for has come true."""
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
        """Be moved to *cpu* by the flow that runs, as one that is preempted may be; False if it keeps others off.

        One that is about to enter a section does not yet.
        """
        if self.world.on_touch is not None:
            self.world.on_touch(self, UPDATE)
        if self.finished or self.held >= Level.NO_PREEMPTION:
            return False
        if cpu is not self.cpu:
            self._move_to(cpu)
        return True

    # -- contexts -----------------------------------------------------------------------------------------------------

    @property
    def owns_cpu(self) -> bool:
        """Whether no task can take the CPU from this flow now: it may touch all that is the CPU's own."""
        return bool(self.irqs_off or self.softirqs_off or self.preempt_off or self.in_handler)

    @property
    def is_atomic(self) -> bool:
        """Whether this flow must not sleep now."""
        return bool(self.irqs_off or self.softirqs_off or self.preempt_off or self.rcu_nesting or self.in_handler)

    def might_sleep(self, name: str) -> None:
        """Report `atomic-sleep` when this flow must not sleep; like the kernel, go on afterwards."""
        if self.is_atomic:
            self.world.report(
                "atomic-sleep",
                name,
                f"BUG: sleeping function called from invalid context: {name}",
                f"irqs_off={self.irqs_off} softirqs_off={self.softirqs_off} preempt_off={self.preempt_off} "
                f"rcu_nesting={self.rcu_nesting} in_handler={self.in_handler}",
                flow=self,
            )

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
        """Switch IRQs on, whatever they were before: the irqsave forms restore instead."""
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
        """Enter the softirq or hard IRQ handler of the CPU, within the step that is its arrival."""
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
        """At which level the code of the flow is."""
        if self.irqs_off or (self.in_handler and self.kind is Kind.HARDIRQ):
            return Level.NO_IRQS
        if self.softirqs_off or self.in_handler:
            return Level.NO_SOFTIRQS
        if self.preempt_off:
            return Level.NO_PREEMPTION
        return Level.READER if self.rcu_nesting else Level.NONE

    def _begin_section(self) -> None:
        """A section begins in the code: it holds from the next step on."""
        self.is_entering = self._level() > self.held

    def enter_section(self) -> None:
        """Hold the level of the code, from the step that begins now on."""
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
        """A section ends: others may come in, though the next may begin before the flow's next step."""
        level = self._level()
        self.is_entering = level > self.held
        if level < self.held:
            was, self.held = self.held, level
            if was >= Level.NO_PREEMPTION:
                self._release_cpu()
            if level == Level.NONE:
                self._left_all()

    def _release_cpu(self) -> None:
        """Let others have the CPU, as far as the level that is held now allows."""
        cpu = self.cpu
        if cpu is None:
            return
        cpu.is_stale = True
        if self.held < Level.NO_PREEMPTION and cpu.holder is self:
            cpu.holder = None
            self.in_use.clear()

    def _left_all(self) -> None:
        """Tell the grace period that waits for this reader, if one does, that it has left."""
        self.sections += 1
        if self.blocks is not None:
            self.blocks(self)

    # -- this CPU's data ----------------------------------------------------------------------------------------------

    def use(self, thing: Shared) -> None:
        """Say that this flow accesses *thing*, which belongs to its CPU; until it lets others have the CPU again.

        Before the first step of a section this is only where *thing* is: the access comes with that step.
        """
        if self.world.on_touch is not None:
            if not self.is_entering:
                self.world.on_touch(thing, UPDATE)
            if self.owns_cpu:
                self.in_use[thing] = None

    def use_part(self, thing: Shared) -> None:
        """The same of this CPU's part of *thing*, while others access theirs."""
        if self.world.on_touch is not None and self.cpu is not None:
            self.world.on_touch(thing, READ)
            self.world.on_touch((thing, self.cpu.id), UPDATE)
