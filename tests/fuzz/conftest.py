"""For every fuzz test: a folder for commands, valid logs, and the number of inputs to try."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.bench import Bench, Memory
from tests.fuzz.kept import Fields, make_kept_file
from tests.fuzz.logs import MADE_BY, Good, make_good

Try = Callable[..., None]


@pytest.fixture(scope="session")
def goods(tmp_path_factory: pytest.TempPathFactory) -> tuple[Good, ...]:
    """The valid logs that the damaged ones are made from."""
    folder = tmp_path_factory.mktemp("goods")
    return tuple(make_good(folder, name) for name in MADE_BY)


@pytest.fixture(scope="session")
def fields(goods: tuple[Good, ...], tmp_path_factory: pytest.TempPathFactory) -> Fields:
    """The fields of a valid regression file, for the canary."""
    return make_kept_file(tmp_path_factory.mktemp("kept"), goods[0])


@pytest.fixture
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """An empty folder to run commands in."""
    return Bench(tmp_path_factory.mktemp("bench"))


def attempt(inputs: int, check: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> None:
    """Check *inputs* inputs, the same ones each time; none of them may take more memory than `Memory` allows."""
    tries = itertools.count()

    def check_one(*drawn: Any) -> None:
        next(tries)
        memory = Memory()
        check(*drawn)
        memory.check()

    tried = settings(
        max_examples=inputs, phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck)
    )
    tried(given(st.tuples(*strategies))(lambda drawn: check_one(*drawn)))()
    assert next(tries) >= inputs, "there are not so many different ones"
