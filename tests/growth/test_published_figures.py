"""The default run, compared with the published figures; it takes minutes."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Command

pytestmark = pytest.mark.slow


def test_the_default_run_shows_the_published_figures(slabrace: Command) -> None:
    found = json.loads(slabrace("growth", "--json").out)
    fitted = [error for error in found["errors"] if error["fitted"]]

    assert len(fitted) == 2
    for error in fitted:
        assert error["mean"] <= 0.10, error
        assert error["worst"] <= 0.25, error
    assert found["mean_error"]["predicted"] <= 0.20
