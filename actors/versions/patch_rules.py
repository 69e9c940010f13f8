"""The rules for patches: a patch changes only state that its own flow owns, and asks the owner for every other change.

The model's own code keeps these rules by convention, checked by tests. A patch can be any code and is checked while it
runs: each place in its file that sets, deletes or fills an attribute first checks the owner of that attribute. So does
each call of an operation that bypasses `ctx.ask`. The machine's own code runs unchecked and at full speed.

A patch may change objects of its own classes, objects that a C function has on its stack (`LOCALS`), and the fields
that the model's own kernel functions write without a message (`FREE`): per-CPU data after `ctx.this_cpu`, a new object
that no other flow can reach yet, and fields of the shadow accounting.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar, cast

from actors.system.actor import Shared
from actors.system.flow import Flow
from actors.system.strategy import Strategy
from actors.system.world import World
from actors.versions.await_rules import AWAIT_GUARDS, AwaitGuard
from protocol.blame import EVENT_LOOPS, FOREIGN_AWAIT
from protocol.errors import BrokenRuleError

T = TypeVar("T")

RULE = "state of another owner is changed only through ctx.ask"

PACKAGES = frozenset({"actors", "explorer", "protocol", "scenarios"})

LOCALS = frozenset({"ListLruWalk", "ScanControl", "SeqFile", "ShrinkControl", "Slabinfo"})
"""Classes of objects that kernel functions have on their stack and pass to the functions they call."""

FREE: Mapping[str, str] = types.MappingProxyType(
    {
        "ArrayCache": "touched",
        "Cgroup": "css has_css self_css",
        "CgroupTree": "nr_cgrps",
        "Context": "active_memcg preempt_off softirqs_off",
        "Css": "id memcg",
        "File": "f_path",
        "Inode": "i_ino i_rwsem i_state",
        "KernfsNode": "is_removed",
        "KmemCache": "charged_pages has_usercopy is_mergeable kobj object_size refcnt slabs",
        "KmemCacheCpu": "freelist page partial tid",
        "Machine": "list_lrus memcg_nr_cache_ids pending_creations reaps",
        "MemcgStock": "cached drain_idx is_flushing nr_pages",
        "ObjStock": "cached drain_idx index is_flushing nid nr_bytes slab_bytes",
        "PercpuRef": "last_get own_refs",
        "RcuData": "called done in_batch",
        "RcuHead": "func queued queued_by",
        "Shrinker": "id",
        "Slab": "freelist frozen inuse live memcg pobjects readers_gone",
        "SlabNode": "free_touched next_reap",
        "SlabSheaf": "nid objects",
        "SlubPercpuSheaves": "main rcu_free spare",
        "Stock": "cached is_flushing nr_pages",
        "SuperBlock": "files s_dentry_lru s_fs_info s_inode_lru s_shrink",
        "TimerBase": "expired",
        "Work": "pending",
    }
)
"""The fields that kernel functions write without a message, by class."""

CALLED = frozenset({"add_timer", "ida_simple_get", "ida_simple_remove", "report", "should_fail"})
"""Methods that kernel functions call directly: operations on timers of this CPU and on ids under a lock that the flow
holds, and the two methods of the world that are for kernel code."""

SEAM_CALLS = frozenset(
    {"ask", "begin", "choose", "migrate", "settle", "sleep", "sleep_in_background", "stall", "this_cpu"}
)
"""The seam, as methods of a flow; only the running flow may call them."""

NEVER: Mapping[str, str] = types.MappingProxyType(
    {
        "faulthandler": "cancel_dump_traceback_later disable dump_traceback_later enable",
        "os": "_exit abort execl execv execve execvp fork forkpty kill killpg",
        "signal": "alarm pthread_kill raise_signal setitimer signal",
        "sys": "setprofile setrecursionlimit settrace",
    }
)
"""Functions, by module, that would end the process or change the way it runs."""

THREAD = ("threading", "Thread")

FILLERS = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "move_to_end", "pop", "popitem", "popleft"}
    | {"remove", "reverse", "setdefault", "sort", "update"}
)
"""Methods that change a Python container."""


TIMES = frozenset({("World", "now"), ("Lane", "ready_at")})
"""The fields that a strategy may set, as it does if it controls the clock."""


class TouchError(BrokenRuleError):
    """A patch changes state it does not own, or makes a call that no patch may make."""


def guarded(tree: ast.Module) -> ast.Module:
    """A patch's module with a check before each change; it runs with `GUARDS` among its globals."""
    return ast.fix_missing_locations(_Guard().visit(tree))  # type: ignore[no-any-return]  # a module stays one


class _Guard(AwaitGuard):
    """Inserts the checks, with those of the awaits."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """A changed attribute: `x.name = ...`, `x.name += ...`, `del x.name`."""
        self.generic_visit(node)
        return node if isinstance(node.ctx, ast.Load) else _ask("@touched", node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """A changed entry of an attribute: `x.name[...] = ...`."""
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            _ask_of_container(node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """A call of an operation, or of a method that changes a container: `x.operation()`, `x.name.append()`."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute):
            if node.func.attr in FILLERS:
                _ask_of_container(node.func.value)
            _ask("@called", node.func)
        return node


def _ask(question: str, node: ast.Attribute) -> ast.Attribute:
    asked = ast.Call(ast.Name(question, ast.Load()), [node.value, ast.Constant(node.attr)], [])
    node.value = ast.copy_location(asked, node.value)
    return node


def _ask_of_container(node: ast.expr) -> None:
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute):
        _ask("@touched", node)


# -- the checks -------------------------------------------------------------------------------------------------------


def touched(thing: T, name: str) -> T:
    """Return *thing*, whose attribute *name* is about to be changed; TouchError if the patch may not change it."""
    owner = thing if isinstance(thing, type) else type(thing)
    if isinstance(thing, types.ModuleType):
        if thing.__name__.partition(".")[0] in PACKAGES:
            _fail(thing, f"it changes {name} of the module {thing.__name__}, which is not the patch's")
    elif is_of_slabrace(owner) and owner.__name__ not in LOCALS and not _is_free(owner, name):
        _fail(thing, f"it changes {name} of {_label(thing)} without asking; {RULE}")
    return thing


def called(thing: T, name: str) -> T:
    """Return *thing*, whose method *name* is about to be called; TouchError if only the owner may call it."""
    if name in ("__setattr__", "__delattr__"):
        if thing is object:
            return cast("T", _Object)
        touched(thing, "fields")
    if isinstance(thing, types.ModuleType) and thing.__name__.partition(".")[0] in EVENT_LOOPS:
        _fail(thing, FOREIGN_AWAIT)
    if isinstance(thing, types.ModuleType) and name in NEVER.get(thing.__name__, "").split():
        _fail(thing, f"it calls {thing.__name__}.{name}(), which affects the whole process; a patch must not")
    if name == "start" and any((base.__module__, base.__name__) == THREAD for base in type(thing).__mro__):
        _fail(thing, "it starts a thread, which is outside the machine")
    if isinstance(thing, Flow) and name in SEAM_CALLS and not getattr(thing.coro, "cr_running", True):
        _fail(thing, f"it calls {name}() of {_label(thing)}, which is another flow")
    if (isinstance(thing, World) and name not in CALLED) or is_operation(thing, name):
        _fail(thing, f"it calls {name}() of {_label(thing)} by itself; {RULE}")
    return thing


def is_operation(thing: object, name: str) -> bool:
    """Whether only the owner of *thing* may run that method. A patch owns the objects of its own classes."""
    owner = type(thing)
    if not isinstance(thing, Shared) or not is_of_slabrace(owner) or name in CALLED:
        return False
    return hasattr(getattr(owner, name, None), "operation")


def set_attribute(thing: object, name: str, value: object) -> None:
    """setattr() for patches."""
    setattr(touched(thing, name), name, value)


def delete_attribute(thing: object, name: str) -> None:
    """delattr() for patches."""
    delattr(touched(thing, name), name)


class _Object:
    """`object` for patches that call these methods on it."""

    __setattr__ = staticmethod(set_attribute)  # type: ignore[assignment]  # called on the class, with the object
    __delattr__ = staticmethod(delete_attribute)  # type: ignore[assignment]  # as above


GUARDS: Mapping[str, Callable[..., Any]] = types.MappingProxyType(
    {
        **AWAIT_GUARDS,
        "@touched": touched,
        "@called": called,
        "setattr": set_attribute,
        "delattr": delete_attribute,
    }
)
"""The checks among the globals of a patch's module."""


def read_only(thing: T, name: str) -> T:
    """Return *thing*, whose attribute *name* a strategy is about to change; an error if it is the machine's."""
    owner = thing if isinstance(thing, type) else type(thing)
    is_free = issubclass(owner, Strategy) or any((base.__name__, name) in TIMES for base in owner.__mro__)
    if is_of_slabrace(owner) and not is_free:
        msg = f"it changes {name} of {_label(thing)}, which a strategy may only read"
        raise BrokenRuleError(msg)
    return thing


STRATEGY_GUARDS: Mapping[str, Callable[..., Any]] = types.MappingProxyType(
    {**AWAIT_GUARDS, "@touched": read_only, "@called": lambda thing, _name: thing}
)
"""The checks among the globals of a strategy's module, whose program is transformed as a patch's."""


def is_of_slabrace(owner: type) -> bool:
    """Whether a class belongs to slabrace, not to the patch."""
    return owner.__module__.partition(".")[0] in PACKAGES


def _is_free(owner: type, name: str) -> bool:
    return any(name in FREE.get(base.__name__, "").split() for base in owner.__mro__)


def _label(thing: object) -> str:
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return str(getattr(thing, "label", None) or getattr(thing, "name", None) or f"the {type(thing).__name__}")


def _fail(thing: object, text: str) -> NoReturn:
    """Raise the error, and record it in the world: the patch may catch exceptions it does not expect."""
    error = TouchError(text)
    world = getattr(getattr(thing, "actor", thing), "world", thing)
    if isinstance(world, World):
        world.spoil(error)
    raise error
