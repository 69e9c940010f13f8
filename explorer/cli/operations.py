"""The catalogue of `list operations`: the declared operations of each kind of object."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from actors.system.actor import Shared
from actors.versions.kernel_fn import functions
from protocol.errors import UsageError
from protocol.names import no_such
from protocol.operations import OperationInfo


def operation_entries(wanted: str | None) -> list[dict[str, Any]]:
    """The operations of every kind of object, or of the *wanted* kind; UsageError if there is no such kind."""
    kinds = {kind.__name__: kind for kind in _kinds()}
    chosen = [name for name in kinds if wanted is None or _bare(name) == _bare(wanted)]
    if wanted is not None and not chosen:
        msg = f"list operations {wanted}: {no_such('kind of object', wanted, kinds, see='slabrace list operations')}"
        raise UsageError(msg)
    return [_entry(kinds[name], method, info) for name in chosen for method, info in operations_of(kinds[name])]


def operations_of(kind: type) -> list[tuple[Any, OperationInfo]]:
    """The methods of a class that are operations, including inherited ones, by name."""
    methods = [method for _, method in inspect.getmembers(kind, inspect.isfunction)]
    return [(method, method.operation) for method in methods if hasattr(method, "operation")]


def _kinds() -> list[type[Shared]]:
    """The classes of slabrace with operations, by name."""
    functions()  # imports every module of the kernel
    known = {kind: None for kind in _below(Shared) if kind.__module__.startswith("actors.") and operations_of(kind)}
    return sorted(known, key=lambda kind: kind.__name__)


def _below(kind: type[Shared]) -> Iterator[type[Shared]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _below(sub)


def _bare(name: str) -> str:
    """*name* in a form for comparison: `kmem_cache` is equal to `KmemCache`."""
    return name.replace("_", "").replace("-", "").casefold()


def _entry(kind: type[Shared], method: Any, info: OperationInfo) -> dict[str, Any]:
    return {
        "name": f"{kind.__name__}.{method.__name__}",
        "object": kind.__name__,
        "operation": info.name,
        "access": info.access.name.lower(),
        "part": info.part,
        "may_wait": info.when is not None,
        "may_sleep": info.sleeps,
        "cost": info.cost,
        "summary": (inspect.getdoc(method) or "").partition("\n")[0],
    }
