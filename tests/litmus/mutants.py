"""Mutants of the search: each omits one clause of the dependence relation, and some program must show the omission.

`python -m tests.litmus --mutants` makes the table. A mutant names a function of the search and its replacement; an
unknown name is an error, so the table follows the code.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from explorer.accesses import CONTEXTS, Accesses
from protocol.errors import InternalError
from protocol.operations import COMMUTE, READ, UPDATE, Access
from tests.litmus.found import FOUND
from tests.litmus.language import Program
from tests.litmus.programs import FEW_STATES, compare, random_program
from tests.litmus.shapes import guarantees

Around = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes the replacement of a function of the search from the original."""


@attrs.frozen
class Mutant:
    """One omitted clause; `places` are `module:function` or `module:Class.function`, each with its replacement.

    `theme` are statements that programs need for the clause to matter (`random_program`). Some clauses only state that
    a waiting flow comes after the event it waits for, or repeat another clause. Without such a clause the search misses
    nothing, but it tries impossible orders (`only_wastes`).
    """

    name: str
    places: tuple[tuple[str, Around], ...]
    theme: tuple[str, ...] = ()
    only_wastes: bool = False

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply the mutant to the search while the context is open."""
        undo: list[tuple[Any, str, Any]] = []
        try:
            for place, around in self.places:
                owner, name = found(place)
                original = owner.__dict__[name]
                undo.append((owner, name, original))
                setattr(owner, name, around(original))
            yield
        finally:
            for owner, name, original in reversed(undo):
                setattr(owner, name, original)


def found(place: str) -> tuple[Any, str]:
    """The owner and the name of the attribute that a place names; AttributeError if it does not exist."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for each in classes:
        owner = getattr(owner, each)
    getattr(owner, name)
    return owner, name


# -- replacements -----------------------------------------------------------------------------------------------------


def returns(make: Callable[..., object]) -> Around:
    """Replace the function by *make*."""
    return lambda _original: make


def without(is_left_out: Callable[[Hashable, Access], bool]) -> tuple[tuple[str, Around], ...]:
    """The search without some accesses of steps and of pending steps."""

    def requested(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def accesses(*args: Any) -> Accesses:
            return {thing: mode for thing, mode in original(*args).items() if not is_left_out(thing, mode)}

        return accesses

    def recorded(original: Any) -> Any:
        return property(requested(original.fget))

    return (("explorer.watch:Watch.accesses", recorded), ("explorer.search.strategies.dpor:accesses_of", requested))


def without_part(*names: str, theme: tuple[str, ...], only_wastes: bool = False) -> Mutant:
    """The search without the accesses to these parts of objects."""
    left_out = without(lambda thing, _mode: isinstance(thing, tuple) and thing[1] in names)
    return Mutant(f"accesses to the part {', '.join(names)}", left_out, theme, only_wastes)


def without_kind(name: str, what: str, *theme: str) -> Mutant:
    """The search without the accesses to objects of one class."""

    def is_left_out(thing: Hashable, _mode: Access) -> bool:
        return type(thing).__name__ == name

    return Mutant(what, without(is_left_out), theme)


def modes_as(change: Callable[[Access], Access]) -> tuple[tuple[str, Around], ...]:
    """The search with other modes of access."""

    def recorded(original: Any) -> Any:
        return property(lambda self: {thing: change(mode) for thing, mode in original.fget(self).items()})

    return (("explorer.watch:Watch.accesses", recorded),)


WORKS = ("queue", "queue", "queue", "flush", "mutex")
CALLBACKS = ("call_rcu", "call_rcu", "call_rcu", "rcu_barrier", "synchronize_rcu", "rcu")

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "entering a read section",
        (
            ("explorer.accesses:becomes_reader", returns(lambda _flow: False)),
            ("explorer.watch:becomes_reader", returns(lambda _flow: False)),
            ("explorer.watch:has_become_reader", returns(lambda _flow, **_before: False)),
        ),
    ),
    Mutant("leaving and entering read sections", without(lambda thing, mode: thing is CONTEXTS and mode is COMMUTE)),
    Mutant(
        "that a grace period looks at the readers", without(lambda thing, mode: thing is CONTEXTS and mode is UPDATE)
    ),
    Mutant("a read before or after a write", modes_as(lambda mode: COMMUTE if mode is READ else mode)),
    Mutant("two writes", modes_as(lambda mode: COMMUTE if mode is UPDATE else mode)),
    Mutant("a wait for what commutes", modes_as(lambda mode: READ if mode is COMMUTE else mode)),
    without_kind("Cell", "accesses to memory"),
    without_kind("Mutex", "accesses to mutexes", "mutex", "mutex", "read", "write"),
    without_kind("SpinLock", "accesses to spin locks"),
    without_kind("CallQueue", "accesses to a CPU's queue of IPIs", "ipi", "ipi", "ipi", "irq"),
    without_kind("Completion", "accesses to completions"),
    without_kind("Work", "accesses to work items", *WORKS),
    without_part("new", theme=CALLBACKS),
    without_part("tickets", theme=WORKS),
    without_part("worklist", "tickets", "busy_hash", "nr_running", theme=WORKS),
    without_part("readers", theme=CALLBACKS, only_wastes=True),
    without_part("busy_hash", theme=WORKS, only_wastes=True),
    Mutant(
        "whom flows keep off their CPUs", (("explorer.search.strategies.dpor:keeps_off", returns(lambda _flow: 0)),)
    ),
    Mutant(
        "that a block under way holds a reversal up",
        (("explorer.search.strategies.races:Races._held_up", returns(lambda _self, _first, _second: None)),),
    ),
    Mutant(
        "that a reversal does not begin with a block that holds it up",
        (("explorer.search.strategies.races:Races._holds_up", returns(lambda _self, _begin, _others, _first: False)),),
    ),
    Mutant(
        "that a spinner gives no turn to those whom it keeps off",
        (("explorer.search.strategies.dpor:turns_of", returns(lambda _event: {})),),
    ),
    Mutant(
        "that sleeping steps wake",
        (("explorer.search.strategies.dpor:Sleeper.is_woken_by", returns(lambda _self, _event: False)),),
    ),
    Mutant(
        "that steps kept off wake who keeps them off",
        (
            (
                "explorer.search.strategies.dpor:Sleeper.of",
                lambda original: staticmethod(
                    lambda event: attrs.evolve(original.__get__(None, _sleeper())(event), keeps_off=0)
                ),
            ),
        ),
    ),
    Mutant(
        "the races of those who still wait",
        (("explorer.search.strategies.races:Races.put_down_pending", returns(lambda _self, _event: None)),),
        ("mutex", "mutex", "spin", "spin"),
    ),
)
"""Every clause that prevents a miss, except one (docs/litmus.md)."""


def _sleeper() -> Any:
    return importlib.import_module("explorer.search.strategies.dpor").Sleeper


# -- the program that shows a mutant ----------------------------------------------------------------------------------


@attrs.frozen
class Verdict:
    """The number of programs tried, and the one that shows the mutant; None if none does."""

    mutant: str
    programs: int
    program: Program | None
    difference: str = ""


def try_mutant(name: str, *, first: int, most: int, budget: int = 400) -> Verdict:
    """Look for a program on which the search is wrong without the clause and right with it.

    For a clause that `only_wastes` the search without it must be longer.
    """
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    fixed = [*(shape.program for shape in guarantees()), *FOUND.values()]
    show = what_is_wasted if mutant.only_wastes else what_is_missed
    for number in range(len(fixed) + most):
        is_fixed = number < len(fixed)
        seed = first + number - len(fixed)
        program = fixed[number] if is_fixed else random_program(seed, mutant.theme, FEW_STATES)
        shown = show(mutant, program, budget)
        if shown:
            return Verdict(mutant.name, number + 1, program, shown)
    return Verdict(mutant.name, len(fixed) + most, None)


def what_is_missed(mutant: Mutant, program: Program, budget: int) -> str:
    """The difference of the search of *program* without the clause; empty if the search with it differs too."""
    with mutant.applied():
        difference = what_differs(program, budget)
    return difference if difference and not what_differs(program, 3 * budget) else ""


def what_is_wasted(mutant: Mutant, program: Program, budget: int) -> str:
    """The lengths of the searches of *program* without and with the clause; empty if the first is not longer."""
    with_clause = compare(program, budget=budget)
    with mutant.applied():
        without_clause = compare(program, budget=budget)
    one, other = (each.schedules + each.cut_off for each in (with_clause, without_clause))
    return f"{other} schedules instead of {one}" if other > one and not with_clause.is_too_large else ""


def what_differs(program: Program, budget: int) -> str:
    """The first difference of dpor on *program*; an exception in the search counts as a difference."""
    try:
        differences = compare(program, budget=budget).differences
    except (InternalError, AssertionError, LookupError) as error:
        return f"{type(error).__name__}: {error}"
    return str(differences[0]) if differences else ""
