"""The functions that a scenario hands over: bodies of tasks, properties and names, checked where they are declared.

The errors are TypeErrors with the line of the declaration. What shows only in the run is a BrokenRuleError at the place
of the function.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from actors.versions.user_code import LONGEST_TEXT, check_call, is_line
from protocol.errors import BrokenRuleError

if TYPE_CHECKING:
    from actors.machine.context import Context

Body = Callable[["Context"], Awaitable[None]]


def check_name(word: str, name: object) -> None:
    """TypeError unless the name of a *word* is one line of printable text."""
    if not (name and is_line(name)):
        msg = f"the name of a {word} is a line of 1 to {LONGEST_TEXT} printable characters, not {name!r:.60}"
        raise TypeError(msg)


def check_flag(word: str, value: object) -> None:
    """TypeError unless *value* is True or False."""
    if type(value) is not bool:
        msg = f"{word} is True or False, not {value!r:.60}"
        raise TypeError(msg)


def check_callable(word: str, function: object, *arguments: object) -> None:
    """TypeError unless *function*, as the *word* in messages, is a function that can be called with the *arguments*."""
    if inspect.iscoroutine(function):
        function.close()  # nothing awaits it any more
        msg = f"the {word} is called already; give the function itself, without (...)"
        raise TypeError(msg)
    if not callable(function):
        msg = f"the {word} is a function, not {function!r:.60}"
        raise TypeError(msg)
    if inspect.isasyncgenfunction(function):
        msg = f"the {word} must not yield; it waits with await"
        raise TypeError(msg)
    check_call(word, function, *arguments)


def begin(body: Body, ctx: Context) -> Awaitable[None]:
    """The call of a task's body; BrokenRuleError if that is nothing to await."""
    call = body(ctx)
    if not inspect.isawaitable(call):
        raise _error_at(body, f"the body of {ctx.name} returns a {type(call).__name__}: declare it with 'async def'")
    return call


def truth(name: str, holds: Callable[[], Any], answer: Any) -> bool:
    """The truth of a property's *answer*; BrokenRuleError if that is a call which was not made, or not awaited."""
    if inspect.iscoroutine(answer):
        answer.close()
    if isinstance(answer, types.CoroutineType | types.GeneratorType | types.MethodType):
        raise _error_at(holds, f"the property {name!r} returns a {type(answer).__name__}, which is always true")
    return bool(answer)


def _error_at(function: Callable[..., Any], text: str) -> BrokenRuleError:
    """The error at the function, at the `__init__` of a class or the `__call__` of another object."""
    named = inspect.unwrap(function)
    method = named if inspect.isroutine(named) else named.__init__ if isinstance(named, type) else type(named).__call__  # type: ignore[misc]  # the class's own
    code: types.CodeType | None = getattr(method, "__code__", None)
    return BrokenRuleError(text, [(code.co_filename, code.co_firstlineno, code.co_name)] if code is not None else [])
