"""`slabrace report`: the page, the JUnit file and the Markdown say what the store says, whatever names it has."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest

from explorer import signals
from explorer.stress.campaign import begin
from explorer.stress.matrix import expand
from explorer.stress.report.curve import interval, panel, thinned, ticks
from explorer.stress.report.markdown import code
from explorer.stress.store import FINDINGS, Store
from tests.conftest import Command, check_usage_error
from tests.stress.browser import Page, open_browser
from tests.stress.stores import LOST, NEW, WITHOUT, campaign, change, own, request_of, rows

__all__ = ["campaign", "own"]

CANARY = "bug:canary: an update was lost:canary_check"

QUICK = ("--seconds", "0")
VOID = {"meta", "path"}


class Parsed(HTMLParser):
    """A page as its elements: tags with their attributes, and its text. Elements have to be nested properly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, attribute: str) -> list[str]:
        return [value for _, found in self.tags if (value := found.get(attribute)) is not None]


def written(slabrace: Command, folder: Path, *words: object) -> tuple[Parsed, str, str]:
    """The page, the JUnit file and the Markdown."""
    answer = slabrace("report", folder, "--out", "r.html", "--junit", "r.xml", "--markdown", "r.md", "--force", *words)
    assert answer.code == 0, answer.err
    texts = [Path(name).read_text(encoding="utf-8") for name in ("r.html", "r.xml", "r.md")]
    return Parsed(texts[0]), texts[1], texts[2]


def read_xml(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 -- our own


def causes_of(slabrace: Command, folder: Path) -> list[dict[str, Any]]:
    return list(json.loads(slabrace("query", folder, "causes", "--json").out))


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_has_every_cause_and_every_link_leads_somewhere(slabrace: Command, own: Path) -> None:
    page, *_ = written(slabrace, own, *QUICK)
    ids, targets = page.all("id"), page.all("href")

    assert len(set(ids)) == len(ids)
    assert {target.removeprefix("#") for target in targets if target.startswith("#")} <= set(ids)
    assert {f"bug-{cause['id']}" for cause in causes_of(slabrace, own)} <= set(ids)
    assert "new causes, " in page.text
    assert "worker <lost>\\x1b[31m: killed" in page.text


def test_the_page_has_no_script_and_loads_nothing(slabrace: Command, own: Path) -> None:
    """A scenario, its message, its file and a lost job have tags in their names."""
    page, *_ = written(slabrace, own, *QUICK)
    tags = {tag for tag, _ in page.tags}

    assert not tags & {"script", "b", "img", "iframe", "object", "embed"}
    assert not [name for _, found in page.tags for name in found if name.startswith("on")]
    assert all(target.startswith("#") for target in page.all("href"))
    assert not page.all("src")
    assert any((found.get("content") or "").startswith("default-src 'none'") for _, found in page.tags)
    assert "<script>alert(1)</script>" in page.text
    assert "\x1b" not in Path("r.html").read_text()


def test_equal_stores_make_equal_pages(slabrace: Command, own: Path) -> None:
    written(slabrace, own, *QUICK)
    first = [Path(name).read_bytes() for name in ("r.html", "r.xml", "r.md")]
    written(slabrace, own, *QUICK)

    assert [Path(name).read_bytes() for name in ("r.html", "r.xml", "r.md")] == first


def test_a_campaign_in_progress_and_an_empty_store_have_reports(slabrace: Command, own: Path, tmp_path: Path) -> None:
    Store(tmp_path / "empty", writes=True).close()
    page, junit, text = written(slabrace, tmp_path / "empty")
    assert "no campaign has begun" in page.text
    assert not read_xml(junit)
    assert text.count("\n") == 1

    with Store(own, writes=True) as store:
        request = msgspec.structs.replace(request_of(Path()), scenarios=("canary",))
        begin(store, request, expand(request))
        page, junit, _ = written(slabrace, own)
    assert "No epoch has ended yet." in page.text
    assert "no new cause, 0 known; 0 schedules of 2 cells" in page.text
    assert {suite.get("skipped") for suite in read_xml(junit)} == {"1"}


# -- witnesses --------------------------------------------------------------------------------------------------------


@pytest.fixture
def canary(own: Path) -> Path:
    """A store whose only new causes are the canary, which is shrunk in no time, and that of the user's file."""
    change(own, "UPDATE bugs SET state = 'open' WHERE cause = 'canary'")
    change(own, "UPDATE bugs SET state = 'known' WHERE cause LIKE ? || '%'", NEW)
    return own


def witness_row(folder: Path, signature: str) -> dict[str, Any]:
    """The witness that a report shows: a shrunk one, or the first."""
    return dict(rows(folder, "SELECT * FROM witnesses WHERE signature = ? ORDER BY short = '', job", signature)[0])


def test_a_new_cause_is_shrunk_once_explained_and_can_be_replayed(slabrace: Command, canary: Path) -> None:
    page, _, text = written(slabrace, canary)
    row = witness_row(canary, CANARY)
    short = canary / FINDINGS / row["short"]
    stamp = short.stat().st_mtime_ns

    assert short.stat().st_size < (canary / FINDINGS / row["log"]).stat().st_size
    assert "the conflict" in page.text
    assert "reproduced" in page.text
    line = f"slabrace replay {short}"
    assert line in page.text
    assert line in text
    assert slabrace(*line.split()[1:], "--driver", "stepper").code == 1
    written(slabrace, canary)
    assert short.stat().st_mtime_ns == stamp


def test_known_causes_are_shrunk_only_if_asked(slabrace: Command, canary: Path) -> None:
    change(canary, "UPDATE bugs SET state = 'known'")
    change(canary, "DELETE FROM sightings WHERE signature = ?", NEW)
    written(slabrace, canary)
    assert not list((canary / FINDINGS).glob("*.short.log"))

    written(slabrace, canary, "--shrink-all")
    assert witness_row(canary, CANARY)["short"]


def test_code_of_a_log_runs_only_with_trust(slabrace: Command, canary: Path) -> None:
    mine = [cause["signatures"][0] for cause in causes_of(slabrace, canary) if "mine" in cause["scenarios"][0]]
    page, *_ = written(slabrace, canary)
    assert "which runs only with --trust" in page.text

    trusting, *_ = written(slabrace, canary, "--trust")
    assert "which runs only with --trust" not in trusting.text
    with Store(canary, writes=False) as store:
        for signature in mine:
            for row in store.rows("SELECT max(short) AS short FROM witnesses WHERE signature = ?", signature):
                assert row["short"]


def test_a_missing_log_is_named(slabrace: Command, canary: Path) -> None:
    log = canary / FINDINGS / witness_row(canary, CANARY)["log"]
    log.unlink()
    page, *_ = written(slabrace, canary)

    assert f"Its log cannot be read: {log}" in page.text


def test_a_damaged_log_is_named(slabrace: Command, canary: Path) -> None:
    log = canary / FINDINGS / witness_row(canary, CANARY)["log"]
    data = log.read_bytes()
    log.write_bytes(data[:-40] + bytes(20) + data[-20:])
    page, *_ = written(slabrace, canary)

    assert f"Not shrunk and explained: {log}" in page.text


def test_a_log_outside_of_the_store_is_not_read(slabrace: Command, canary: Path, tmp_path: Path) -> None:
    """A store may come from anywhere."""
    row = witness_row(canary, CANARY)
    shutil.move(canary / FINDINGS / row["log"], tmp_path / "outside.log")
    change(canary, "UPDATE witnesses SET log = '../../outside.log' WHERE signature = ?", CANARY)
    page, *_ = written(slabrace, canary)

    assert f"Its log cannot be read: {canary / FINDINGS / 'outside.log'}" in page.text
    assert not list(tmp_path.glob("*.short.log"))


def test_a_link_in_the_place_of_a_short_log_does_not_lead_out_of_the_store(
    slabrace: Command, canary: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    short = (canary / FINDINGS / witness_row(canary, CANARY)["log"]).with_suffix(".short.log")
    short.symlink_to(mine)
    written(slabrace, canary)

    assert mine.read_text() == "mine"
    assert short.is_file()
    assert not short.is_symlink()


@pytest.mark.parametrize(
    ("table", "column", "text"),
    [
        ("witnesses", "finding", "{}"),
        ("witnesses", "finding", "no JSON"),
        ("campaigns", "request", "[]"),
        ("cells", "point", "no JSON"),
        ("work", "plan", b"\xff"),
    ],
)
def test_a_text_that_is_not_what_it_should_be_is_one_line(
    slabrace: Command, own: Path, table: str, column: str, text: str | bytes
) -> None:
    change(own, f"UPDATE {table} SET {column} = ?", text)  # noqa: S608 -- the names above

    assert "damaged" in check_usage_error(slabrace("report", own, *QUICK))


@pytest.mark.parametrize("name", ["", "..", ".", "a\0b", "\x1b[1m", "x" * 300, "/etc/passwd"])
def test_any_name_of_a_log_is_reported(slabrace: Command, canary: Path, name: str) -> None:
    change(canary, "UPDATE witnesses SET log = ?", name)
    page, *_ = written(slabrace, canary)

    assert "Its log cannot be read" in page.text
    assert "root:" not in page.text


def test_a_report_without_time_says_so(slabrace: Command, own: Path) -> None:
    page, *_ = written(slabrace, own, *QUICK)

    assert "--seconds gives it more" in page.text
    assert not list((own / FINDINGS).glob("*.short.log"))


def test_an_interrupted_report_is_written_nevertheless(
    slabrace: Command, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise signals.Interrupted

    monkeypatch.setattr("explorer.stress.report.witnesses.shorten", interrupt)
    answer = slabrace("report", canary, "--out", "r.html")

    assert answer.code == signals.EXIT_INTERRUPTED
    assert "new cause" in Path("r.html").read_text()


# -- the other forms --------------------------------------------------------------------------------------------------


def test_the_junit_file_fails_with_new_causes_only(slabrace: Command, own: Path) -> None:
    _, junit, _ = written(slabrace, own, *QUICK)
    suites = list(read_xml(junit))
    cases = [case for suite in suites for case in suite]
    failures = [failure.get("message") or "" for case in cases for failure in case.iter("failure")]
    new = [cause for cause in causes_of(slabrace, own) if cause["state"] == "open"]

    assert [suite.get("name") for suite in suites] == ["5.4-fixed", f"5.4-fixed -{WITHOUT}"]
    assert len(cases) == 6
    assert len(failures) == sum(cause["cells"] for cause in new) > 0
    assert sum(int(suite.get("failures") or "") for suite in suites) == len(failures)
    assert [(error.text or "").partition(": ")[2] for case in cases for error in case.iter("error")] == [
        LOST.replace("\x1b", "\\x1b")
    ]
    assert "known causes: canary" in junit

    slabrace("bugs", own, *(cause["id"] for cause in new), "--known")
    _, junit, text = written(slabrace, own, *QUICK)
    assert {suite.get("failures") for suite in read_xml(junit)} == {"0"}
    assert "no new cause" in text


def test_the_markdown_is_a_screen_with_the_replay_lines_of_new_causes(slabrace: Command, own: Path) -> None:
    _, _, text = written(slabrace, own, *QUICK)
    new = [cause for cause in causes_of(slabrace, own) if cause["state"] == "open"]

    assert text.count("\n") <= 45
    assert text.count("slabrace replay ") == len(new)
    assert "\x1b" not in text
    assert "<" not in without_code(text)
    assert "lost jobs: 1" in text


def without_code(text: str) -> str:
    """Markdown without its code blocks and code spans, by the rules of CommonMark."""
    text = re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", text)


@pytest.mark.parametrize("text", ["a", "`", "``x`", " a ", "a``b", "<b>", "@user #1 |", "x\ny", "\x1b[31m", "x" * 500])
def test_any_name_is_one_code_span(text: str) -> None:
    assert without_code(f"{code(text)}") == ""


# -- files ------------------------------------------------------------------------------------------------------------


def test_no_file_is_replaced_unasked(slabrace: Command, campaign: Path) -> None:
    Path("report.html").write_text("mine")
    check_usage_error(slabrace("report", campaign, *QUICK))
    check_usage_error(slabrace("report", campaign, *QUICK, "--junit", "new.xml", "--markdown", "report.html"))

    assert Path("report.html").read_text() == "mine"
    assert not Path("new.xml").exists()
    assert slabrace("report", campaign, *QUICK, "--force").code == 0
    assert Path("report.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    "words",
    [
        ["--out", "."],
        ["--out", "a", "--junit", "a"],
        ["--junit", "x/../a", "--markdown", "a"],
        ["--out", "/proc/nosuch/r.html"],
        ["--shrink-all"],
    ],
)
def test_files_that_cannot_be_written_are_one_line(slabrace: Command, campaign: Path, words: list[str]) -> None:
    check_usage_error(slabrace("report", campaign, *QUICK, *words))


# -- large stores -----------------------------------------------------------------------------------------------------


@pytest.fixture
def large(own: Path) -> Path:
    """A store with 2,000 cells and 300 causes."""
    change(
        own,
        "INSERT INTO cells (id, campaign, key, name, point, scenario, kernel, strategy, guide, schedules)"
        " SELECT 1000 + value, 1, 'key' || value, 'cell <b>' || value, '{}', 'scenario ' || value / 20,"
        " 'kernel ' || value % 20, 'guided', x'00', value FROM json_each(?)",
        str(list(range(1, 2_001))),
    )
    change(
        own,
        "INSERT INTO bugs (id, cause, state, campaign)"
        " SELECT 1000 + value, 'cause <i>' || value, 'open', 1 FROM json_each(?)",
        str(list(range(300))),
    )
    change(
        own,
        "INSERT INTO sightings (cell, signature, way, bug, count, spread, job, first)"
        " SELECT id, 'signature', 'random', 1000 + id % 300, 1, 1, 1, 0 FROM cells WHERE id > 1000",
    )
    return own


def test_a_large_store_has_a_page_of_a_few_mebibytes(slabrace: Command, large: Path) -> None:
    page, junit, text = written(slabrace, large, *QUICK)

    assert len({name for name in page.all("id") if name.startswith("bug-")}) == len(causes_of(slabrace, large)) > 300
    assert Path("r.html").stat().st_size < 4 << 20
    assert sum(len(suite) for suite in read_xml(junit)) == 2_006
    assert text.count("\n") <= 45


# -- the curve --------------------------------------------------------------------------------------------------------


def test_the_band_is_narrower_with_more_draws_and_never_beyond_zero_and_one() -> None:
    assert interval(1.0, 1) == (1.0, 1.0, 1.0)
    assert interval(0.0, 4) == pytest.approx((0.0, 0.0, 0.98))
    low, chance, high = interval(0.5, 100)
    assert chance - low == pytest.approx(high - chance) == pytest.approx(1.96 * (75**0.5) / 100)
    assert high - low > interval(0.5, 10_000)[2] - interval(0.5, 10_000)[0]


@pytest.mark.parametrize("most", [1e-6, 0.3, 1, 3, 7, 999, 10**9])
def test_ticks_are_few_and_within_the_figure(most: float) -> None:
    found = ticks(most, least=0)

    assert found[0] == 0
    assert 2 <= len(found) <= 6
    assert found[-1] <= most


def test_a_long_curve_keeps_its_last_point() -> None:
    rows = [{"number": float(number)} for number in range(1_001)]

    assert thinned(rows)[-1] == rows[-1]
    assert 300 <= len(thinned(rows)) <= 400
    assert thinned([]) == []


def test_a_line_lies_within_its_figure() -> None:
    drawn = panel("x", "x", [(0, 0), (50, 3), (100, 2)], str)

    assert drawn.line == "M64.0,118.0 L382.0,8.0 L700.0,44.7"


# -- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def page(slabrace: Command, canary: Path, tmp_path: Path) -> Iterator[Page]:
    """The report, opened in Chromium on a phone."""
    written(slabrace, canary)
    with open_browser(tmp_path / "profile") as opened:
        opened.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
        opened.open(tmp_path / "r.html")
        yield opened


COLOURS = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color].join()"


def test_the_page_in_chromium(page: Page, tmp_path: Path) -> None:
    """One test, because a browser takes a second to start: console, network, width, keyboard, colours, roles, print."""
    assert not page.of("Runtime.consoleAPICalled")
    assert not page.of("Runtime.exceptionThrown")
    assert not page.of("Log.entryAdded")
    requests = [event["request"]["url"] for event in page.of("Network.requestWillBeSent")]
    assert requests == [(tmp_path / "r.html").as_uri()]

    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    page.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.press("Enter")
    page.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.evaluate("document.activeElement.parentElement.open") is True
    page.press(" ")
    assert page.evaluate("document.activeElement.parentElement.open") is False

    seen = set()
    for scheme in ("light", "dark"):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        seen.add(page.evaluate(COLOURS))
    assert len(seen) == 2

    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {node["role"]["value"] for node in tree if not node["ignored"]}
    assert {"main", "navigation", "banner", "heading", "table", "columnheader", "rowheader", "image"} <= roles
    for node in tree:
        if not node["ignored"] and node["role"]["value"] in {"region", "image", "link", "table"}:
            assert node["name"]["value"], node

    page.call("Emulation.setEmulatedMedia", media="print")
    closed = (
        "[...document.querySelectorAll('details:not([open]) dl')].some(one => one.getBoundingClientRect().height == 0)"
    )
    assert page.evaluate("document.querySelectorAll('details:not([open]) dl').length") > 0
    assert page.evaluate(closed) is False
