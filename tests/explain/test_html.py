"""The page: it is complete, it loads nothing, and no name of a run can become markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser

from explorer.explain import FORMATS, Explanation
from tests.explain.stages import NASTY, explain_free, nasty_names

VOID = {"meta", "br", "input", "link", "img"}


class Page(HTMLParser):
    """The parts of a page that a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        key = dict(self.tags[-1][1]).get("id") or self.tags[-1][0] if self.tags else ""
        self.texts[key] = self.texts.get(key, "") + data

    def rows(self) -> list[dict[str, str | None]]:
        """The attributes of each step."""
        return [attributes for _, attributes in self.tags if attributes.get("role") == "option"]


def test_the_page_has_a_row_for_each_step_and_data_for_each_row(explanation: Explanation) -> None:
    page = Page(FORMATS["html"](explanation))

    data = json.loads(page.texts["data"])
    numbers = [step.number for step in explanation.trace.steps]
    assert [row["id"] for row in page.rows()] == [f"step-{number}" for number in numbers]
    assert [step["number"] for step in data] == numbers
    assert data[-1]["enabled"] == list(explanation.trace.steps[-1].enabled)


def test_the_conflict_and_the_finding_are_marked(explanation: Explanation) -> None:
    rows = Page(FORMATS["html"](explanation)).rows()
    conflict = explanation.conflict

    assert conflict is not None
    assert "conflict" in (rows[conflict.first]["class"] or "").split()
    assert "finding" in (rows[-1]["class"] or "").split()


def test_the_page_loads_nothing(explanation: Explanation) -> None:
    page = Page(FORMATS["html"](explanation))

    for tag, attributes in page.tags:
        assert tag not in {"link", "img", "iframe", "object"}
        assert not {"src", "href"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    policy = next(attributes for tag, attributes in page.tags if tag == "meta" and "http-equiv" in attributes)
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def test_names_cannot_become_part_of_the_page() -> None:
    text = FORMATS["html"](explain_free(nasty_names))
    page = Page(text)

    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert "<script>alert" not in text
    assert any(NASTY in step["owner"] for step in json.loads(page.texts["data"]))


def test_the_report_is_in_the_page(explanation: Explanation) -> None:
    text = FORMATS["html"](explanation)

    assert "the conflict" in text
    assert "first difference from a run that passes" in text
    assert "10/10" in text


def test_it_can_be_used_with_the_keyboard_and_in_the_dark(explanation: Explanation) -> None:
    text = FORMATS["html"](explanation)

    for key in ("j: ", "k: ", "ArrowDown: ", "Home: "):
        assert key in text
    assert 'role="listbox"' in text
    assert "prefers-color-scheme: dark" in text
