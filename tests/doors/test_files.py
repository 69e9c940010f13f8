"""Scenarios, oracles and strategies by path: their names, their effects, and the messages for broken files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from actors.versions.kernel_fn import functions
from explorer.experiment import Experiment, RunOptions
from explorer.session import run
from protocol.errors import UsageError
from scenarios import SCENARIOS
from tests.doors import files
from tests.doors.conftest import Command, what_ran
from tests.helpers import run_process
from tests.tidy.sources import ROOT

SEEN = "oracle:no-dying:"


@pytest.mark.parametrize(
    "text", ["mine.py", "./mine.py:late-job", "mine.py:job_is_late", "FOLDER/mine.py:late-job"], ids=str
)
def test_a_scenario_of_a_file_is_run_by_each_of_its_names(slabrace: Command, tmp_path: Path, text: str) -> None:
    code, out, err = slabrace("run", text.replace("FOLDER", str(tmp_path)), "--set", "jobs=2", "--no-log", "--json")

    assert (code, err) == (0, "")
    assert json.loads(out)["scenario"] == "mine.py:late-job"
    assert what_ran() == {"scenario"}


@pytest.mark.parametrize("command", [("run", "--no-log"), ("explore", "--budget", "3", "--no-log"), ("selftest",)])
def test_every_command_takes_one(slabrace: Command, command: tuple[str, ...]) -> None:
    more = ("--schedules", "2", "--pairs", "2") if command == ("selftest",) else ()
    code, out, err = slabrace(command[0], "mine.py", *command[1:], *more)

    assert (code, err) == (0, "")
    assert "mine.py:late-job on 5.3" in out


@pytest.mark.parametrize("strategy", ["stubborn.py:Stubborn:2", "portfolio:stubborn.py:Stubborn:2"])
def test_workers_find_what_one_process_finds(slabrace: Command, strategy: str) -> None:
    search = ("explore", "mine.py", "--oracle", "eyes.py", "--strategy", strategy, "--budget", "20")
    answers = []
    for workers in (1, 2):
        code, out, _ = slabrace(*search, "--workers", workers, "--no-log", "--json")
        assert code == 1
        answers.append({name: value for name, value in json.loads(out).items() if name != "seconds"})

    assert answers[0] == answers[1]
    assert [finding["signature"] for finding in answers[0]["findings"]] == [SEEN]
    assert answers[0]["oracles"] == ["eyes.py"]
    assert answers[0]["by_strategy"][strategy.removeprefix("portfolio:")]["schedules"] > 0


def test_match_and_compare_take_one(slabrace: Command) -> None:
    trace = ROOT / "tests" / "data" / "ftrace-linux-5.3.1-create.txt"
    code, out, err = slabrace("match", trace, "--kernel", "5.3", "--scenario", "mine.py", "--budget", 3, "--json")
    assert (code, err) == (1, "")
    assert json.loads(out)["outcome"] == "no-match"
    for kernel in ("original", "5.3"):
        assert slabrace("run", "mine.py", "--kernel", kernel, "--log", f"{kernel}.log")[0] == 0
    assert slabrace("compare", "original.log", "5.3.log")[0] == 2
    for more in (["--trust"], ["--scenario", "mine.py"]):
        code, out, err = slabrace("compare", "original.log", "5.3.log", *more)
        assert (code, err) == (0, "")
        assert "mine.py:late-job: what stays behind" in out


def test_the_file_of_several_scenarios_says_which_there_are(slabrace: Command) -> None:
    Path("two.py").write_text(files.TWO_SCENARIOS)
    code, _, err = slabrace("run", "two.py", "--no-log")

    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith("two.py: it declares 2 scenarios; give two.py:NAME, where NAME is one of one, two\n")
    assert slabrace("run", "two.py:second", "--no-log")[0] == 0


def test_two_files_may_declare_the_same_name(slabrace: Command) -> None:
    Path("other").mkdir()
    Path("other/mine.py").write_text(files.TWO_SCENARIOS.replace('"one"', '"late-job"'))
    Path("canary.py").write_text(files.TWO_SCENARIOS.replace('"one"', '"canary"'))
    digests = []
    for text in ("mine.py:late-job", "other/mine.py:late-job", "mine.py:late-job", "canary.py:canary", "canary"):
        code, out, err = slabrace("run", text, "--no-log", "--json")
        assert code in (0, 1), err
        digests.append(json.loads(out)["digest"])

    assert digests[0] == digests[2]
    assert len(set(digests)) == 3, "both files of the same stage boot the same machine"


def test_a_file_leaves_nothing_behind(slabrace: Command) -> None:
    modules, kernel = set(sys.modules), dict(functions())
    assert slabrace("run", "mine.py", "--oracle", "eyes.py", "--strategy", "stubborn.py", "--no-log")[0] == 1

    assert not [name for name in set(sys.modules) - modules if "mine" in name or "eyes" in name or "stubborn" in name]
    assert dict(functions()) == kernel
    assert "late-job" not in {scenario.name for scenario in SCENARIOS}


# -- oracles ----------------------------------------------------------------------------------------------------------


def test_an_oracle_reports_what_it_yields_once_as_long_as_it_lasts(slabrace: Command) -> None:
    assert slabrace is not None
    result = run(RunOptions(scenario="mine.py", oracles=("eyes.py:no-dying",)))
    (finding,) = result.findings

    assert finding.signature == SEEN
    assert finding.message == "no-dying: 1 dying"
    assert finding.details == ("and that is a detail",)
    assert finding.count == 1


def test_a_file_gives_all_its_oracles_or_one(slabrace: Command) -> None:
    assert slabrace is not None
    names = {
        text: [oracle.name for oracle in Experiment.of(RunOptions(scenario="canary", oracles=(text,))).oracles]
        for text in ("eyes.py", "eyes.py:left-over", "eyes.py:no_dying")
    }

    assert names == {
        "eyes.py": ["no-dying", "left-over"],
        "eyes.py:left-over": ["left-over"],
        "eyes.py:no_dying": ["no-dying"],
    }


@pytest.mark.parametrize("when", ["rest", "step"])
def test_an_oracle_looks_at_rest_or_after_each_step(slabrace: Command, when: str) -> None:
    assert slabrace is not None
    Path("count.py").write_text(
        "from actors.api import oracle\n"
        f"@oracle('late', 'always wrong after two steps', when={when!r})\n"
        "def late(machine):\n"
        "    return ['late'] if machine.world.steps > 2 else []\n"
    )
    result = run(RunOptions(scenario="mine.py", oracles=("count.py",)))
    (found,) = result.findings

    assert (found.step == 2) == (when == "step")
    assert bool(found.flow) == (when == "step")
    assert found.count == 1


# -- broken files -----------------------------------------------------------------------------------------------------

BOOT = "from scenarios.api import MACHINE, scenario\n@scenario('x', 'y', *MACHINE)\ndef x(stage):\n"

WRONG = [
    ("run gone.py", "gone.py: cannot read it: No such file or directory"),
    ("run bad.py", "bad.py, line 1: invalid syntax"),
    ("run raises.py", "raises.py, line 2: ValueError: no"),
    ("run exits.py", "exits.py, line 1: SystemExit: 3"),
    ("run stops.py", "stops.py, line 1: KeyboardInterrupt"),
    ("run missing.py", "missing.py, line 1: ModuleNotFoundError: No module named 'nowhere'"),
    ("run none.py", "none.py: it declares no scenario: it needs @scenario(NAME, SUMMARY, ...) above a definition"),
    ("run mine.py:late-jop", "mine.py: there is no such scenario in it; do you mean 'late-job'? There are late-job"),
    (
        "run patch.py",
        "patch.py, line 2: it declares the kernel function do_exit(), as only a patch does: put that into",
    ),
    ("run build.py", "build.py, line 4, in x: ZeroDivisionError: division by zero"),
    ("run task.py", "task.py, line 6, in body: KeyError: 'lost'"),
    ("run mine.py --oracle fails.py", "fails.py, line 4, in fails: KeyError: 'seen'"),
    (
        "run mine.py --oracle numbers.py",
        "numbers.py, line 2: the oracle numbers has to yield texts, one for each thing",
    ),
    (
        "run mine.py --oracle nothing.py",
        "nothing.py, line 2: the oracle nothing has to yield texts, one for each thing",
    ),
    ("run mine.py --oracle leak", "--oracle leak: this oracle is built in and always checked; leave the option out"),
    ("run mine.py --oracle eye", "--oracle eye: there is no such oracle; there are none"),
    ("run mine.py --oracle mine.py", "--oracle mine.py: it declares no oracle: it needs @oracle("),
    (
        "run mine.py --oracle eyes.py --oracle eyes.py:no-dying",
        "--oracle: two oracles are named no-dying; leave one of them out",
    ),
    (
        "run mine.py --oracle when.py",
        "--oracle when.py, line 2: ValueError: the oracle when looks when='never': give 'rest' or 'step'",
    ),
    ("run mine.py --strategy stubborn.py:Stubborn:x", "stubborn.py, line 10, in __init__: ValueError: invalid literal"),
    ("run mine.py --strategy stubborn.py:lazy", "--strategy stubborn.py: there is no such strategy in it"),
    ("run mine.py --strategy far.py", "far.py, line 5: choose() returned 7, where 0 to 1 is allowed"),
    ("run mine.py --strategy bare.py", "--strategy bare.py:bare: choose() fails: AttributeError: 'Bare' object has no"),
    (
        "run mine.py --strategy slow.py",
        "slow.py, line 5: draw_latency() returned -1, where ",
    ),
    ("run mine.py --oracle breaks.py", "mine.py, breaks.py: the machine breaks with it at "),
    ("run twice.py", "twice.py: it declares two scenarios named same"),
    ("run knob.py", "knob.py, line 2: TypeError: Knob n: its default 9 is not 0 to 5"),
    ("run knobs.py", "knobs.py, line 2: TypeError: the scenario k has two parameters of one name"),
    ("run mine.py --strategy no.py", "--strategy no.py:no: it makes an object of type int, not a Strategy"),
    ("run mine.py --strategy plain.py:plain:2", "--strategy plain.py:plain:2: plain.py:plain takes no argument"),
    ("run ./mine:late-job", "./mine:late-job: there is no such scenario"),
    ("explore mine.py --from x.log", "--from x.log: from which step on? give --at STEP"),
]

TEXTS = {
    "bad.py": "def\n",
    "raises.py": "x = 1\nraise ValueError('no')\n",
    "exits.py": "raise SystemExit(3)\n",
    "stops.py": "raise KeyboardInterrupt\n",
    "missing.py": "import nowhere\n",
    "none.py": "from scenarios.canary import canary\n",
    "patch.py": "from actors.api import kernel_fn\n@kernel_fn('do_exit', 'kernel/exit.c')\nasync def do_exit(c): ...\n",
    "build.py": f"{BOOT}    1 / 0\n",
    "task.py": (
        f"{BOOT}    stage.boot('kmalloc-8')\n    async def body(ctx):\n        {{}}['lost']\n"
        "    stage.task('t', body)\n"
    ),
    "fails.py": "from actors.api import oracle\n@oracle('fails', '')\ndef fails(machine):\n    {}['seen']\n    yield\n",
    "numbers.py": "from actors.api import oracle\n@oracle('numbers', 'n')\ndef numbers(machine):\n    yield 1\n",
    "nothing.py": "from actors.api import oracle\n@oracle('nothing', 'n')\ndef nothing(machine):\n    pass\n",
    "when.py": "from actors.api import oracle\n@oracle('when', 'w', when='never')\ndef when(machine): ...\n",
    "far.py": (
        "from explorer.api import RandomWalk, strategy\n@strategy('far', 'f')\nclass Far(RandomWalk):\n"
        "    def __init__(self, seed, argument, known): super().__init__(seed)\n"
        "    def choose(self, lanes): return 7\n"
    ),
    "bare.py": (
        "from explorer.api import RandomWalk, strategy\n@strategy('bare', 'b')\nclass Bare(RandomWalk):\n"
        "    def __init__(self, seed, argument, known): pass\n"
    ),
    "slow.py": (
        "from explorer.api import RandomWalk, strategy\n@strategy('slow', 's')\nclass Slow(RandomWalk):\n"
        "    def __init__(self, seed, argument, known): super().__init__(seed)\n"
        "    def draw_latency(self, low, high): return -1\n"
    ),
    "breaks.py": (
        "from actors.api import oracle\n@oracle('breaks', 'b', when='step')\ndef breaks(machine):\n"
        "    machine.rcu = None\n    return []\n"
    ),
    "twice.py": (
        "from scenarios.api import MACHINE, scenario\n@scenario('same', 'a', *MACHINE)\ndef a(stage): ...\n"
        "@scenario('same', 'b', *MACHINE)\ndef b(stage): ...\n"
    ),
    "knob.py": "from scenarios.api import Knob\nKnob('n', 'a number', 9, most=5)\n",
    "knobs.py": (
        "from scenarios.api import Knob, scenario\n@scenario('k', 'k', Knob('n', 'n', 0), Knob('n', 'n', 0))\n"
        "def k(stage): ...\n"
    ),
    "no.py": "from explorer.api import strategy\n@strategy('no', 'n')\ndef no(seed, argument, known): return 3\n",
    "plain.py": (
        "from explorer.api import RandomWalk, strategy\n@strategy('plain', 'p')\n"
        "def plain(seed, argument, known): return RandomWalk(seed)\n"
    ),
}


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[words for words, _ in WRONG])
def test_what_is_wrong_is_one_line_and_no_traceback(slabrace: Command, words: str, said: str) -> None:
    for name, text in TEXTS.items():
        Path(name).write_text(text)
    code, _, err = slabrace(*words.split(), *(["--no-log"] if words.startswith("run") else []))

    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith(f"slabrace: {said}"), err


def test_a_loop_without_end_is_ended(slabrace: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.watchdog.LOOKS", 2)
    Path("loop.py").write_text("while True:\n    pass\n")
    code, _, err = slabrace("run", "loop.py", "--no-log")

    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("slabrace: loop.py, line ")


def test_a_variation_of_a_scenario_of_slabrace_is_a_scenario_of_the_file(slabrace: Command) -> None:
    Path("varied.py").write_text(
        "import attrs\nfrom scenarios.canary import canary\nmine = attrs.evolve(canary, name='mine')\n"
    )
    code, out, err = slabrace("run", "varied.py", "--no-log", "--json")

    assert (code, err) == (1, "")
    assert json.loads(out)["scenario"] == "varied.py:mine"


def test_an_unsound_file_is_told_before_anything_is_written(slabrace: Command) -> None:
    Path("bad.py").write_text("def\n")
    assert slabrace("run", "bad.py")[0] == 2
    assert not Path("runs").exists()
    with pytest.raises(UsageError, match=r"bad\.py, line 1"):
        Experiment.of(RunOptions(scenario="bad.py"))


# -- exact searches ---------------------------------------------------------------------------------------------------

HIDDEN = """\
from actors.api import Context, Mutex, mutex_lock, mutex_unlock, oracle
from scenarios.api import MACHINE, Stage, scenario


@scenario("two-mutexes", "two tasks take a mutex each", *MACHINE)
def two_mutexes(stage: Stage) -> None:
    stage.has_session = False
    machine = stage.boot("kmalloc-8")

    async def take(ctx: Context, mutex: Mutex) -> None:
        await mutex_lock(ctx, mutex)
        await mutex_unlock(ctx, mutex)

    stage.task("one", lambda ctx: take(ctx, machine.slab_mutex), cpu=0)
    stage.task("two", lambda ctx: take(ctx, machine.cgroup_mutex), cpu=1)


@oracle("one-at-a-time", "the two mutexes are never held at once", when="step")
def one_at_a_time(machine):
    if machine.slab_mutex.holder and machine.cgroup_mutex.holder:
        yield "they are"
"""


@pytest.mark.parametrize("strategy", ["portfolio", "dfs"])
def test_an_exact_search_finds_an_order_that_only_an_oracle_tells_apart(slabrace: Command, strategy: str) -> None:
    """No step of one task depends on one of the other: all orders are one trace class, and some show the finding."""
    Path("hidden.py").write_text(HIDDEN)
    search = ("explore", "hidden.py", "--oracle", "hidden.py", "--no-log", "--json")
    code, out, err = slabrace(*search, "--strategy", strategy)

    assert code == 1, err
    assert [finding["signature"] for finding in json.loads(out)["findings"]] == ["oracle:one-at-a-time:"]


def test_dpor_does_not_take_an_oracle_that_looks_after_each_step(slabrace: Command) -> None:
    Path("hidden.py").write_text(HIDDEN)
    code, out, err = slabrace("explore", "hidden.py", "--strategy", "dpor", "--json", "--no-log")
    assert (code, json.loads(out)["stopped"]) == (0, "exhausted"), err
    code, out, err = slabrace("explore", "hidden.py", "--oracle", "hidden.py", "--strategy", "dpor", "--no-log")

    assert (code, err.count("\n")) == (2, 1)
    assert (
        "slabrace: --strategy dpor: the oracle one-at-a-time looks after each step, and dpor leaves out orders" in err
    )
    assert slabrace("explore", "hidden.py", "--oracle", "eyes.py:left-over", "--strategy", "dpor", "--no-log")[0] == 0


def with_property(**how: bool) -> str:
    """The same stage, with a property in place of the oracle."""
    options = "".join(f", {name}={value}" for name, value in how.items())
    text, _, _ = HIDDEN.partition("\n\n@oracle")
    both = "not (machine.slab_mutex.holder and machine.cgroup_mutex.holder)"
    return f'{text}    stage.always("one at a time", lambda: {both}{options})\n'


@pytest.mark.parametrize("strategy", ["portfolio", "dfs"])
def test_an_exact_search_finds_an_order_that_only_a_property_tells_apart(slabrace: Command, strategy: str) -> None:
    Path("hidden.py").write_text(with_property())
    code, out, err = slabrace("explore", "hidden.py", "--strategy", strategy, "--no-log", "--json")

    assert code == 1, err
    assert [finding["signature"] for finding in json.loads(out)["findings"]] == ["property:always: one at a time:"]


def test_dpor_takes_only_properties_that_read_one_object(slabrace: Command) -> None:
    Path("hidden.py").write_text(with_property())
    code, _, err = slabrace("explore", "hidden.py", "--strategy", "dpor", "--no-log")
    assert (code, err.count("\n")) == (2, 1)
    assert "the property 'one at a time', which is not declared as is_local, looks after each step" in err

    Path("hidden.py").write_text(with_property(is_local=True))
    code, out, err = slabrace("explore", "hidden.py", "--strategy", "dpor", "--no-log", "--json")
    assert (code, json.loads(out)["stopped"]) == (0, "exhausted"), "the promise is the author's"


def test_dpor_does_not_say_that_a_state_of_several_objects_is_never_reached(slabrace: Command) -> None:
    """It leaves out the orders in which both locks are held; `dfs` reaches the state."""
    text, _, _ = HIDDEN.partition("\n\n@oracle")
    both = "machine.slab_mutex.holder and machine.cgroup_mutex.holder"
    Path("hidden.py").write_text(f'{text}    stage.sometimes("both", lambda: {both})\n')
    search = ("explore", "hidden.py", "--no-log", "--strategy")

    out = slabrace(*search, "dpor")[1]
    assert "sometimes 'both': in no run; dpor leaves out orders" in " ".join(out.split())
    assert "the race was never tried" not in out
    assert "never reached" not in slabrace(*search, "dfs")[1]


THREAD = """
import threading
from scenarios.api import MACHINE, scenario

threading.Thread(target=threading.Event().wait).start()


@scenario("threaded", "boots a machine", *MACHINE)
def threaded(stage):
    stage.boot("kmalloc-8")
"""


def test_a_thread_of_a_file_that_never_ends_does_not_keep_the_command(tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text(THREAD)
    answer = run_process(sys.executable, "-m", "slabrace", "run", "threaded.py", "--no-log", cwd=tmp_path)

    assert answer.returncode == 0
    assert "ok: nothing found" in answer.stdout
    assert answer.stderr == "slabrace: threads that your files started have not ended; the command ends without them\n"


DECLARED = """
from actors.api import oracle
from explorer.api import RandomWalk, strategy
from scenarios.api import MACHINE, Knob, scenario


{declaration}
"""


@pytest.mark.parametrize(
    ("declaration", "said"),
    [
        ("@scenario('x', 'y')\ndef x(): ...", "TypeError: the scenario x is called with 1 argument"),
        ("@scenario('x', 'y')\nasync def x(stage): ...", "the scenario x is declared with 'async def'"),
        ("@scenario('x', 'y')\ndef x(stage):\n    yield", "the scenario x is a function that does not yield"),
        ("@scenario('x', 'y', 5)\ndef x(stage): ...", "and takes parameters that are Knobs"),
        (
            "@scenario(5, 'y')\ndef x(stage): ...",
            "the name that declares the scenario is not one line of at most 200 printable characters",
        ),
        ("@scenario('x\\udc80', 'y')\ndef x(stage): ...", "is not one line of at most 200 printable characters"),
        ("@scenario('x', 5)\ndef x(stage): ...", "the summary that declares the scenario is not one line"),
        ("@oracle('x', 'y')\ndef x(): ...", "the oracle x is called with 1 argument"),
        ("@strategy('x', 'y')\nclass X(RandomWalk): ...", "the strategy x is called with 3 arguments"),
        (
            "@strategy('x', 'y', argument=5)\ndef x(seed, argument, known): ...",
            "has an argument that is one line of printable text, and learns=True or False",
        ),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_where_it_stands(tmp_path: Path, declaration: str, said: str) -> None:
    (tmp_path / "wrong.py").write_text(DECLARED.format(declaration=declaration))
    answer = run_process(sys.executable, "-m", "slabrace", "run", "wrong.py", "--no-log", cwd=tmp_path)

    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert answer.stderr.startswith("slabrace: wrong.py, line ")
    assert said in answer.stderr


MISSES = "wrong.py, line 8, in x: LookupError: {knob}: there is no such knob; there are {known}; "


@pytest.mark.parametrize(
    ("declaration", "told"),
    [
        (
            "@scenario('x', 'y', *MACHINE)\ndef x(stage): ...",
            "wrong.py:x: the scenario boots no machine; call stage.boot",
        ),
        ("@scenario('x', 'y')\ndef x(stage): stage.boot()", MISSES.format(knob="slabinfo", known="none")),
        ("@scenario('x', 'y', Knob('a', 'b', 1))\ndef x(stage): stage.knobs['b']", MISSES.format(knob="b", known="a")),
    ],
)
def test_a_scenario_that_cannot_be_built_is_refused_in_one_line(tmp_path: Path, declaration: str, told: str) -> None:
    (tmp_path / "wrong.py").write_text(DECLARED.format(declaration=declaration))
    answer = run_process(sys.executable, "-m", "slabrace", "run", "wrong.py", "--no-log", cwd=tmp_path)

    assert (answer.returncode, answer.stderr.startswith(f"slabrace: {told}")) == (2, True), answer.stderr
    assert answer.stderr.count("\n") == 1


def test_all_schedules_of_a_search_run_one_text_of_the_strategy(tmp_path: Path) -> None:
    """The file is edited by its own strategy, as a user might edit it meanwhile; no worker reads it again."""
    text = (
        "from pathlib import Path\nfrom explorer.api import RandomWalk, strategy\n@strategy('s', 's')\n"
        "class S(RandomWalk):\n    def __init__(self, seed, argument, known): super().__init__(seed)\n"
        "    def choose(self, lanes):\n        Path('s.py').write_text('1 / 0')\n        return super().choose(lanes)\n"
    )
    (tmp_path / "s.py").write_text(text)
    search = ("explore", "canary", "--set", "rounds=1", "--strategy", "s.py", "--budget", "40", "--no-log")
    answer = run_process(sys.executable, "-m", "slabrace", *search, "--workers", "2", cwd=tmp_path)

    assert answer.returncode in (0, 1), answer.stderr
    assert "40 schedules" in answer.stdout
    assert (tmp_path / "s.py").read_text() == "1 / 0"
