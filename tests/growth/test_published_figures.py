"""The default run, which docs/growth.md shows, against the published figures. The test of the page makes the run."""

from __future__ import annotations

import re

from tests.tidy.sources import ROOT

ERROR = re.compile(
    r"^  (?P<row>[^,]+), (?P<kind>fitted|predicted): error (?P<mean>[\d.]+)% in the mean, (?P<worst>[\d.]+)%"
)
PAGE = (ROOT / "docs" / "growth.md").read_text(encoding="utf-8").splitlines()


def test_the_default_run_shows_the_published_figures() -> None:
    errors = [found for line in PAGE if (found := ERROR.match(line))]
    fitted = [error for error in errors if error["kind"] == "fitted"]
    predicted = next(line for line in PAGE if line.startswith("mean error of all predicted figures: "))

    assert [error["row"] for error in fitted] == ["original", "5.3"]
    assert len(errors) == 6
    assert all(float(error["mean"]) <= 10 and float(error["worst"]) <= 25 for error in fitted)
    assert float(predicted.split()[-1].rstrip("%")) <= 20
