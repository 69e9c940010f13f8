"""SIGINT, SIGTERM and SIGHUP in this process: raised once, at the right place, and their handlers restored."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from explorer import cli, signals
from explorer.search.campaign import Campaign
from explorer.shrink import Shrinker
from explorer.signals import SIGNALS, Interrupted
from tests.conftest import Command
from tests.helpers import MODULE, make_world, start_process
from tests.processes.attacks import catches, wait_until


@pytest.fixture(autouse=True)
def same_handlers() -> Iterator[None]:
    before = [signal.getsignal(one) for one in SIGNALS], sys.unraisablehook
    yield

    assert ([signal.getsignal(one) for one in SIGNALS], sys.unraisablehook) == before


@pytest.mark.parametrize("one", SIGNALS)
def test_a_signal_is_raised_at_once_and_has_an_exit_code(one: signal.Signals) -> None:
    with signals.caught():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(one)

        assert signals.exit_code(130) == 128 + one
        assert signals.exit_code(1) == 1


def test_a_signal_that_is_held_back_comes_at_the_end() -> None:
    done: list[object] = []

    def work() -> None:
        with signals.held_back():
            with signals.held_back():
                signal.raise_signal(signal.SIGTERM)
                done.append(signals.is_pending())
            done.append("all of it")

    with signals.caught(), pytest.raises(Interrupted):
        work()

    assert done == [True, "all of it"]


def test_a_second_ctrl_c_does_not_wait_and_a_second_sigterm_is_the_first() -> None:
    with signals.caught():
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        with signals.held_back(), pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)


def test_a_loop_that_holds_signals_back_firmly_is_not_torn_by_a_second_ctrl_c() -> None:
    done: list[object] = []

    def work() -> None:
        with signals.held_back(firmly=True):
            with signals.held_back():
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
                done.append(signals.is_pending())
            with pytest.raises(Interrupted), signals.let_through():
                done.append("never")
        done.append("taken in the block")

    with signals.caught():
        work()

    assert done == [True, "taken in the block"]
    assert not signals.is_torn()


def test_a_third_ctrl_c_ends_the_process() -> None:
    insisting = """
import signal
from explorer import signals
with signals.caught():
    for _ in range(3):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("raised", flush=True)
"""
    ended = subprocess.run(  # noqa: S603 -- this Python, with words of ours
        [sys.executable, "-c", insisting], capture_output=True, text=True, timeout=60, check=False
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "raised\nraised\n", "")


def test_after_the_answer_no_signal_is_raised() -> None:
    with signals.caught():
        signals.ignore_further()
        for one in (*SIGNALS, *SIGNALS):
            signal.raise_signal(one)


def test_a_world_ends_after_its_step() -> None:
    world, _ = make_world()
    with signals.caught():
        with signals.ending(world):
            signal.raise_signal(signal.SIGHUP)

            assert world.stop_before_next == "interrupted"

        with pytest.raises(Interrupted):
            signals.raise_pending()
        signals.raise_pending()


def test_an_exception_that_python_swallows_is_raised_again() -> None:
    """Python drops exceptions in destructors, and a world has thousands of coroutines that are destroyed."""

    class Swallows:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with signals.caught():
        Swallows()
        with pytest.raises(Interrupted):
            time.sleep(10)

    assert signals.exit_code(130) == 143


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.caught():
            signal.raise_signal(signal.SIGHUP)

            assert signals.exit_code(130) == 130, "none has come; of SIGHUP it would be 129"
    finally:
        signal.signal(signal.SIGHUP, before)


# -- commands ---------------------------------------------------------------------------------------------------------


def raise_in(monkeypatch: pytest.MonkeyPatch, what: type, method: str, one: signal.Signals) -> None:
    """Raise a signal before each call of a method."""
    called: Callable[..., object] = getattr(what, method)

    def interrupted(self: object, *arguments: object, **keywords: object) -> object:
        if getattr(self, "runs", 1):
            signal.raise_signal(one)
        return called(self, *arguments, **keywords)

    monkeypatch.setattr(what, method, interrupted)


def test_a_second_ctrl_c_at_the_very_end_is_no_traceback(slabrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    ignore_further = signals.ignore_further

    def just_before() -> None:
        signal.raise_signal(signal.SIGINT)
        ignore_further()

    def interrupted(_arguments: object) -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    monkeypatch.setattr(signals, "ignore_further", just_before)
    monkeypatch.setattr(cli, "_run", interrupted)
    ended = slabrace("list")

    assert (ended.code, ended.err) == (143, "")


def test_a_signal_that_comes_back_in_a_group_is_no_error_of_slabrace(
    slabrace: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_a_nursery(_command: str) -> int:
        msg = "of a nursery"
        raise BaseExceptionGroup(msg, [Interrupted()])

    monkeypatch.setattr("explorer.cli.importlib.import_module", in_a_nursery)
    ended = slabrace("list")

    assert (ended.code, ended.err) == (130, "")


@pytest.mark.parametrize("one", SIGNALS)
def test_a_search_that_is_interrupted_gives_its_answer(
    one: signal.Signals, slabrace: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_in(monkeypatch, Campaign, "_check_end", one)
    answer = slabrace("explore", "canary", "--no-log", "--json")
    told = json.loads(answer.out)

    assert answer.code == 128 + one
    assert told["outcome"] == "interrupted"
    assert told["schedules"] == 1
    assert sum(counts["schedules"] for counts in told["by_strategy"].values()) == 1


def test_a_shrinker_that_is_interrupted_gives_the_best_so_far(
    slabrace: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    slabrace("run", "late-allocation", "--kernel", "v7", "--seed", "1", "--log", "x.log")
    raise_in(monkeypatch, Shrinker, "_attempt", signal.SIGTERM)
    answer = slabrace("shrink", "x.log", "--json")
    told = json.loads(answer.out)

    assert answer.code == 143
    assert told["outcome"] == "interrupted"
    assert told["runs"] == 1
    assert slabrace("replay", "x.short.log").code == 1


def test_a_signal_from_the_first_line_on_ends_the_process_without_a_word() -> None:
    words = ["run", "shared-dentry", "--no-log", "--set", "generations=100000"]
    with start_process(*MODULE, *words) as process:
        wait_until(lambda: catches(process.pid))
        process.send_signal(signal.SIGINT)

        assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 130


@pytest.mark.slow
def test_a_terminal_that_is_closed_ends_a_search_without_a_word(tmp_path: Path) -> None:
    """The kernel sends SIGHUP, and all further writes fail."""
    terminal, its_side = pty.openpty()
    words = [*MODULE, "explore", "rmdir-under-load", "--budget", "100000", "--workers", "2"]
    script = "import fcntl, os, sys, termios\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\nos.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen(  # noqa: S603 -- a command of the tests
        [sys.executable, "-c", script, *words],
        stdin=its_side,
        stdout=its_side,
        stderr=its_side,
        cwd=tmp_path,
        start_new_session=True,
    ) as process:
        os.close(its_side)
        text = b""
        while b"findings" not in text:
            text += os.read(terminal, 4096)
        os.close(terminal)

        assert process.wait(10) == 129
