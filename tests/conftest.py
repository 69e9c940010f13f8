"""For every test: deterministic Hypothesis settings, and the command line run in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import hypothesis
import pytest

from explorer.cli import main

hypothesis.settings.register_profile(
    "slabrace",
    derandomize=True,  # the same examples every time
    deadline=None,  # no test looks at the wall clock
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("slabrace")


@attrs.frozen
class Answer:
    """What one command came to: exit code, standard output (as bytes, too), standard error."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()


def check_usage_error(answer: Answer) -> str:
    """Exit code 2, nothing on standard output, one line on standard error; return it."""
    assert answer.code == 2, answer.err
    assert answer.out == ""
    assert answer.err.startswith("slabrace: ")
    assert answer.err.count("\n") == 1, answer.err
    assert "internal error" not in answer.err
    return answer.err.strip()


Command = Callable[..., Answer]


@pytest.fixture
def slabrace(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> Answer:
        capsysbinary.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsysbinary.readouterr()
        return Answer(code, captured.out, captured.err.decode())

    return command
