"""Patch files with declarations of every shape. The behaviour of their functions is not tested here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from hypothesis import strategies as st

IMPORTS = """\
import contextlib
import dataclasses
import functools

from actors.api import kernel_fn, unpatched

"""


@attrs.frozen
class File:
    """A patch file. `is_right`: its declarations fit 5.3; None: not known, or decided by other tests."""

    text: bytes
    is_right: bool | None

    def __repr__(self) -> str:
        return f"<{'right' if self.is_right else 'wrong' if self.is_right is False else 'any'}: {self.text[:600]!r}>"


Piece = tuple[str, bool | None]
"""A part of a declaration, and whether it is right."""

NAMES: Sequence[Piece] = (
    *((f'"{name}"', True) for name in ("kmemcg_workfn", "kmemcg_workfn")),
    *(
        (text, False)
        for text in ('"kmemcg_workfnn"', '""', "5", "None", "[]", '"\\0"', '"\\x1b[2J"', '"a\\nb"', '"\\ud800"')
    ),
    ('b"kmemcg_workfn"', False),
    ('"x" * 5000', False),
)
FILES: Sequence[Piece] = (
    *((', "mm/slab_common.c"', True) for _ in range(3)),
    *((f", {text}", False) for text in ('"mm/slub.c"', '""', "5", "None", '"/etc/passwd"', '"\\x1b[2J"')),
    ("", False),
)
OPTIONS: Sequence[Piece] = (
    *(
        (text, True)
        for text in ("", "", ', profiles=".."', ', profiles="5.3"', ', profiles="5.3.."', ', known_as="other"')
    ),
    *((f", profiles={text}", False) for text in ('"v7"', '"9.9"', "5", "None", '"5.3,,9"', '"..9.9"', '"\\x1b[2J"')),
    *((f", known_as={text}", False) for text in ("5", '"a b"', '"\\x1b[2J"', '"\\ud800"', '"\\0"', "[1]")),
    (", nope=1", False),
    (', "third"', False),
)
ABOVE: Sequence[Piece] = (
    *(("", True) for _ in range(4)),
    ("@staticmethod\n", None),
    ("@property\n", None),
    ("@functools.cache\n", None),
    ("@id\n", None),
    ("@nope\n", False),
    ("@kernel_fn\n", False),
)
BELOW: Sequence[Piece] = (
    *(("", True) for _ in range(4)),
    *(
        (f"@{text}\n", False)
        for text in ("staticmethod", "property", "functools.cache", "id", "dataclasses.dataclass", "5")
    ),
    ("@contextlib.asynccontextmanager\n", None),
    ("@functools.partial\n", False),
)
SIGNATURES: Sequence[Piece] = (
    *(
        (text, True)
        for text in ("(ctx, work)", "(ctx, work)", "(a, b)", "(ctx, work=None)", "(ctx: int, work: str) -> None")
    ),
    *((text, False) for text in ("()", "(ctx)", "(ctx, work, more)", "(**args)", "(ctx, *, work)", "(ctx, **work)")),
    *((text, False) for text in ("(ctx, *work)", "(ctx, work", "(ctx, ctx)", "(ctx work)", "(5)", "(ctx, work=nope)")),
    ("(ctx, work, /)", None),
)
BODIES: Sequence[Piece] = (
    *(
        (text, True)
        for text in (
            "    pass",
            "    return",
            "    return await unpatched(ctx, kmemcg_workfn, work)",
            '    """Text."""',
        )
    ),
    *(
        (text, False)
        for text in (
            "    yield",
            "    yield 5\n    await work",
            "pass",
            "",
            "    return (",
            "\tpass\n        pass",
            "    \0",
        )
    ),
    ("    def inner():\n        yield\n    return inner", True),
    ("    nonlocal work", False),
)
KINDS: Sequence[tuple[str, str, bool | None]] = (
    *(("async def f", ":\n", True) for _ in range(5)),
    ("def f", ":\n", False),
    ("class f", ":\n", False),
    ("async  def  kmemcg_workfn", ":\n", True),
    ("async def f[T]", ":\n", None),
    ("async def", ":\n", False),
    ("async def f", "\n", False),
)
VALUES = (
    "print",
    "5",
    "None",
    "'text'",
    "object()",
    "len",
    "lambda ctx, work: None",
    "functools.partial(print)",
    "type",
    "[].append",
)
"""Objects that are declared in place of a function."""

AROUND: Sequence[Piece] = (
    *(("", True) for _ in range(6)),
    *(
        (f"{text}\n", False)
        for text in ("import nope", "from . import x", "1 / 0", "raise Exception('a\\nb')", "x = (", "5 = x", "\0")
    ),
    *(
        (f"{text}\n", False)
        for text in ("(" * 300, "x = " + "-" * 9000 + "1", "return", "await x", "x = " + "9" * 5000, "é = \x1b")
    ),
    *(
        (f"{text}\n", True)
        for text in ("import sys; del sys.modules[__name__]", "del kernel_fn", "x = '\\x1b'", "__name__ = 5")
    ),
    *(
        (f"{text}\n", None)
        for text in ("__file__ = None", "from actors.versions import patching; patching.kernel_fn = None")[:1]
    ),
)


@st.composite
def declarations(draw: st.DrawFn) -> File:
    """Some lines and one declaration, in most cases with at most one error."""
    parts: dict[str, Piece] = {}
    wrong = draw(
        st.sets(
            st.sampled_from(["name", "file", "option", "above", "below", "signature", "body", "around"]), max_size=2
        )
    )
    tables = {
        "name": NAMES,
        "file": FILES,
        "option": OPTIONS,
        "above": ABOVE,
        "below": BELOW,
        "signature": SIGNATURES,
        "body": BODIES,
        "around": AROUND,
    }
    for name, pieces in tables.items():
        parts[name] = draw(st.sampled_from(pieces)) if name in wrong else pieces[0]
    begin, end, is_kind = draw(st.sampled_from(KINDS))
    rights = [is_kind, *(right for _, right in parts.values())]
    text = {name: piece for name, (piece, _) in parts.items()}
    code = (
        f"{text['above']}@kernel_fn({text['name']}{text['file']}{text['option']})\n{text['below']}"
        f"{begin}{text['signature']}{end}{text['body']}\n\n{text['around']}"
    )
    is_right = False if False in rights else None if None in rights else True
    return File((IMPORTS + code).encode("utf-8", errors="surrogatepass"), is_right)


@st.composite
def values(draw: st.DrawFn) -> File:
    """A declaration of an object that is not a function."""
    value: Any = draw(st.sampled_from(VALUES))
    return File(f'{IMPORTS}kernel_fn("kmemcg_workfn", "mm/slab_common.c")({value})\n'.encode(), is_right=False)


RIGHT = (
    IMPORTS + '@kernel_fn("kmemcg_workfn", "mm/slab_common.c")\nasync def kmemcg_workfn(ctx, work):\n'
    "    await unpatched(ctx, kmemcg_workfn, work)\n"
)
