"""For every test: deterministic Hypothesis settings, and the command line run in this process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import hypothesis
import pytest

from explorer.cli import main
from explorer.signals import SIGNALS

hypothesis.settings.register_profile(
    "slabrace",
    derandomize=True,  # the same examples every time
    deadline=None,  # no test looks at the wall clock
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("slabrace")


@pytest.fixture(scope="session", autouse=True)
def all_signals_arrive() -> Iterator[None]:
    """Nohup ignores SIGHUP, and a shell's `&` SIGINT, also for the processes that a test starts: no test needs that."""
    ignored = [one for one in SIGNALS if signal.getsignal(one) is signal.SIG_IGN]
    for one in ignored:
        signal.signal(one, signal.default_int_handler if one == signal.SIGINT else signal.SIG_DFL)
    yield

    for one in ignored:
        signal.signal(one, signal.SIG_IGN)


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
