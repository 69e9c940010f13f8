"""The repository's own Python files, parsed for the tidy tests."""

from __future__ import annotations

import ast
import functools
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
PACKAGES = ("protocol", "actors", "scenarios", "explorer")
SHIPPED = (*PACKAGES, "slabrace")
"""The packages of the distribution; `slabrace` is the package that starts the others."""


@attrs.frozen
class Module:
    """One file of Python, parsed."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Its path from the root, for messages."""
        return str(self.path.relative_to(ROOT))

    def comments(self) -> Iterator[tuple[int, str]]:
        """Each comment with its line."""
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string

    def imports(self) -> Iterator[tuple[int, str]]:
        """Each imported module with its line, from anywhere in the file."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node.lineno, alias.name
            elif isinstance(node, ast.ImportFrom):
                yield node.lineno, ("." * node.level) + (node.module or "")


def modules(*folders: str) -> list[Module]:
    """Every module below these folders of the repository."""
    return [module for folder in folders for module in modules_of(folder)]


@functools.cache
def modules_of(folder: str) -> tuple[Module, ...]:
    """The modules below one folder; many tests read them, and to parse them takes seconds."""
    return tuple(
        Module(path, text, ast.parse(text))
        for path in sorted((ROOT / folder).rglob("*.py"))
        for text in [path.read_text(encoding="utf-8")]
    )
