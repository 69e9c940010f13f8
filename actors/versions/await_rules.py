"""The check for a forgotten `await` in the user's files.

`f()` where `await f()` is meant does nothing, and Python says nothing about it: the run goes on without the step. So
each of the user's files is transformed before it runs: where nothing awaits the result of a call any more, that result
is checked. A coroutine that is passed on, by a `return` of a plain function for one, stays as it is.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from protocol.errors import BrokenRuleError

T = TypeVar("T")


def awaiting(tree: ast.Module) -> ast.Module:
    """A file's module with a check of each call that nothing awaits; it runs with `AWAIT_GUARDS` among its globals."""
    return ast.fix_missing_locations(AwaitGuard().visit(tree))  # type: ignore[no-any-return]  # a module stays one


class AwaitGuard(ast.NodeTransformer):
    """Inserts the checks. Their names are not valid Python identifiers, so no program can use them."""

    def __init__(self) -> None:
        self._is_async = [False]  # one entry for the module and for each enclosing function

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """A missing await: `f()` where `await f()` is meant."""
        self.generic_visit(node)
        node.value = _ask_if_dropped(node.value)
        return node

    def visit_If(self, node: ast.If | ast.While | ast.IfExp | ast.Assert) -> ast.AST:
        """A missing await: `if f():` where `if await f():` is meant."""
        self.generic_visit(node)
        node.test = _ask_if_dropped(node.test)
        return node

    visit_While = visit_IfExp = visit_Assert = visit_If  # noqa: N815 -- ast has these names

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """A missing await: `for x in y if f()` where `for x in y if await f()` is meant."""
        self.generic_visit(node)
        node.ifs = [_ask_if_dropped(test) for test in node.ifs]
        return node

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        """A missing await: `case x if f():` where `case x if await f():` is meant."""
        self.generic_visit(node)
        node.guard = _ask_if_dropped(node.guard) if node.guard is not None else None
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """A missing await: `f() and ...` where `await f() and ...` is meant.

        A coroutine is true: `or` passes it on, and so does `and` if it is the last operand.
        """
        self.generic_visit(node)
        if isinstance(node.op, ast.And):
            node.values[:-1] = map(_ask_if_dropped, node.values[:-1])
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """A missing await: `not f()` where `not await f()` is meant."""
        self.generic_visit(node)
        node.operand = _ask_if_dropped(node.operand)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """A missing await: `f() == ...` where `await f() == ...` is meant."""
        self.generic_visit(node)
        node.left, *node.comparators = map(_ask_if_dropped, (node.left, *node.comparators))
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST:
        """A missing await: `return f()` in an async function, whose caller awaits that function and not `f()`."""
        self.generic_visit(node)
        if self._is_async[-1] and node.value is not None:
            node.value = _ask_if_dropped(node.value)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> ast.AST:
        """The body of a function."""
        self._is_async.append(isinstance(node, ast.AsyncFunctionDef))
        self.generic_visit(node)
        self._is_async.pop()
        return node

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # noqa: N815 -- as above


def _ask_if_dropped(node: ast.expr) -> ast.expr:
    """Insert a check that the result of a call needed no await: after this point nothing awaits it.

    The call may be an operand that `and` or `or` passes on, or a branch of a conditional expression.
    """
    if isinstance(node, ast.BoolOp):
        passed_on = slice(-1, None) if isinstance(node.op, ast.And) else slice(None)
        node.values[passed_on] = map(_ask_if_dropped, node.values[passed_on])
    elif isinstance(node, ast.IfExp):
        node.body, node.orelse = _ask_if_dropped(node.body), _ask_if_dropped(node.orelse)
    if not isinstance(node, ast.Call):
        return node
    name = ast.Constant(getattr(node.func, "attr", "") or getattr(node.func, "id", ""))
    return ast.copy_location(ast.Call(ast.Name("@dropped", ast.Load()), [node, name], []), node)


def dropped(value: T, name: str) -> T:
    """Return the value of a call that nothing awaits from here on; an error if it should have been awaited.

    *name* is that of the function as the file calls it; empty if it calls no name.
    """
    if isinstance(value, types.AsyncGeneratorType):
        msg = f"it calls {name or value.__name__}() without 'async for', so nothing is done"
        raise BrokenRuleError(msg)
    if isinstance(value, types.CoroutineType) or (isinstance(value, types.GeneratorType) and is_of_the_seam(value)):
        value.close()
        msg = f"it calls {name or value.__name__}() without await, so nothing is done"
        raise BrokenRuleError(msg)
    return value


def is_of_the_seam(generator: types.GeneratorType[Any, Any, Any]) -> bool:
    """Whether it is an awaitable generator, as `ctx.ask` makes them."""
    return bool(generator.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)


AWAIT_GUARDS: Mapping[str, Callable[..., Any]] = types.MappingProxyType({"@dropped": dropped})
"""The check among the globals of a file's module."""
