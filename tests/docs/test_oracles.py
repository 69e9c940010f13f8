"""docs/oracles.md names only existing functions."""

from __future__ import annotations

import re

from tests.tidy.sources import ROOT, modules

WORD = re.compile(r"`(_?[a-z_0-9]{4,})`")


def test_every_function_that_the_page_names_is_there() -> None:
    page = (ROOT / "docs" / "oracles.md").read_text(encoding="utf-8")
    text = "\n".join(module.text for module in modules("actors"))
    suffixes = {"_v5", "_v6", "warn", "recheck", "always", "refcount"}
    wrong = [name for name in WORD.findall(page) if name not in suffixes and not re.search(rf"def {name}\(", text)]

    assert not wrong
    assert len(WORD.findall(page)) > 30
