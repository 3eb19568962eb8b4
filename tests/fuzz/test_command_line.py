"""Every argument of every command, in this process.

Options are read from the program itself, so that a new one is fuzzed from the day it exists. What
takes long is cut off: trials are planned, checked and prepared, but not handed out; nothing is
simulated. The network is forbidden.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from support.damage import JUNK, as_json
from support.fuzzing import examples
from support.paths import TOY_PLUGIN as TOY
from support.recording import AttemptCounter
from support.suite_files import FIXTURES, SUITE, result_file_names

from obdbench.cli import main as cli
from obdbench.errors import ObdError

Program = Callable[[list[str]], tuple[int, str]]
INVALID_WORDS = [
    *("", " ", "\0", "a\0b", "\n", "-", "--", "-1", "0", "1e400", "nan", "-inf", "9" * 5000),
    *(
        "é\U0001f600",
        "\udcff",
        "x" * 300,
        "²",
        "%s",
        "{}",
        "../..",
        "a/b/c",
        "/dev/null",
        "~no-such-user/x",
    ),
    *(
        "nowhere",
        "nowhere.toml",
        "nowhere.py",
        "nowhere.json",
        "a_folder",
        "a_file",
        "a_file/below",
    ),
    *(
        "a_folder/empty.json",
        "noise.safetensors",
        "noise.json",
        "noise.toml",
        "noise.py",
        "noise.npz",
    ),
    *(
        "=",
        "a=",
        "=3",
        "pairs=nan",
        "pairs=-1",
        "pairs=1e99",
        "steps=[",
        'x="""',
        "a.b.c=1",
        "pairs={}",
    ),
    *(
        "evaluate_at=[]",
        "evaluate_at=[2.0]",
        "inner_optimizer=1979-05-27",
        "clip=inf",
        "architecture=²",
    ),
    *(
        "solver=truncated",
        "window=3",
        "init=top-q",
        "pairs=65537",
        "inner_steps=100000",
        "noise=exact",
    ),
    *(
        "outer_lr=1:0",
        "outer_lr=nan:nan",
        "outer_lr=-inf:inf",
        "beta=0:1e400",
        "beta=,",
        "tau=a,b",
        "x=1:2",
    ),
    *(
        "file:",
        "file:#",
        "file:noise.npz#hopper",
        "file:a_folder/hopper.npz",
        "file:~no-such-user/hopper.npz",
    ),
    *("file:hopper\0.npz", "file:" + "y" * 300 + ".npz#hopper", "file:noise.npz#snake", "minari/"),
    *(
        "minari/mujoco/hopper/none-v0",
        "minari/mujoco/é/none-v0",
        "d4rl/hopper-none-v2",
        "d4rl/",
    ),
    *(
        "d4rl/hopper-medium-v2",
        "embedded/",
        "[",
        "*",
        "d4rl/*",
        "embedded/hop*",
    ),
    *(
        "4-1",
        "0-99999",
        "1,",
        "cuda",
        "cuda:99",
        "cuda:-1",
        "meta",
        "mps",
        "cpu:0",
        "CPU",
        "ray",
        "auto",
    ),
    *("ray://nowhere:1", "module:", ":name", "..:x", "os:getcwd", "os", "json.decoder:JSONDecoder"),
]
VALID_WORDS: dict[str, list[str]] = {
    "suite": ["smoke", "quick", "mine.toml"],
    "objective": ["random", "pbc", "av-pbc"],
    "objectives": ["random", "pbc", "dbc"],
    "dataset": ["toy/hopper-toy-v0", "embedded/hopper-medium-replay-v1"],
    "protocol": ["default", "ensemble"],
    "seeds": ["0", "0-2"],
    "preset": ["tiny", "paper"],
    "set_": ["pairs=8", "steps=2", "evaluate_at=[0.0, 1.0]"],
    "plugin": [TOY],
    "executor": ["local", "ray"],
    "workers": ["1"],
    "threads": ["1"],
    "memory": ["0.5"],
    "device": ["cpu"],
    "timeout": ["5"],
    "out": ["results"],
    "to": ["pages"],
    "publish": ["results/quick"],
    "param": ["beta=0.01", "outer_lr=0.01:0.1"],
    "trials": ["2"],
    "criterion": ["offline", "returns"],
    "name": ["mine"],
    "search_seed": ["3"],
    "kind": [*cli.LISTS],
    "source": ["results/quick"],
    "repository": ["owner/name"],
    "path": [f"results/quick/{result_file_names()[0]}"],
    "pattern": ["embedded/*"],
    "ids": ["embedded/hopper-medium-replay-v1", "d4rl/hopper-medium-v2"],
    "episodes": ["1"],
    "steps": ["10000"],
    "run_folder": ["a_folder"],
}


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the program, by the words that call it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


COMMANDS = dict(commands(typer.main.get_command(cli.app)))


def junk() -> st.SearchStrategy[str]:
    return st.one_of(
        st.sampled_from(INVALID_WORDS),
        st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=12),
        st.builds("{}={}".format, st.sampled_from(["pairs", "steps", "beta", "clip"]), JUNK),
    )


@st.composite
def calls(draw: st.DrawFn, path: tuple[str, ...]) -> list[str]:
    """A call of a command, with junk in one or two places and valid words in the others."""
    params = COMMANDS[path].params
    bad = draw(st.lists(st.sampled_from(params), min_size=1, max_size=2, unique_by=id))
    words: list[str] = []
    for param in params:
        option = param.opts[0] if param.opts[0].startswith("-") else None
        if option and param.is_flag:
            words += [option] if draw(st.integers(0, 3)) == 0 else []
            continue
        if param not in bad and option and draw(st.integers(0, 2)):
            continue
        many = param.nargs == -1 or getattr(param, "multiple", False)
        for _ in range(draw(st.integers(1, 2)) if many else 1):
            valid = VALID_WORDS.get(param.name)
            word = draw(junk() if param in bad or not valid else st.sampled_from(valid))
            if option:
                words += [f"{option}={word}"] if word.startswith("-") else [option, word]
            else:
                words = ["--", word, *words] if word.startswith("-") else [word, *words]
    if "--" in words:
        at = words.index("--")
        return [*path, *words[:at], *[w for w in words[at:] if w != "--"]]
    return [*path, *words]


@pytest.fixture
def program(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Program]:
    """The command line in a folder of good and bad files, with all that is slow cut off."""
    work_folder = folder / "home" / "work"
    (work_folder / "a_folder").mkdir(parents=True)
    (work_folder / "a_folder" / "empty.json").write_bytes(b"")
    (work_folder / "a_file").write_text("{")
    (work_folder / "mine.toml").write_bytes(SUITE)
    for kind in ("safetensors", "json", "toml", "py", "npz"):
        (work_folder / f"noise.{kind}").write_bytes(bytes(range(256)))
    (work_folder / "results" / "quick").mkdir(parents=True)
    for path in sorted(FIXTURES.glob("*.json"))[:2]:
        (work_folder / "results" / "quick" / path.name).write_bytes(path.read_bytes())
    (work_folder / "results" / "quick" / "noise.json").write_bytes(as_json({"schema_version": 1}))
    monkeypatch.chdir(work_folder)
    for name in ("OBDBENCH_MIRROR", "D4RL_DATASET_DIR", "OBDBENCH_PRESETS", "OBDBENCH_RESULTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    for name in ("OBDBENCH_CACHE", "MINARI_DATASETS_PATH", "HOME"):
        monkeypatch.setenv(name, str(folder / "home"))

    def stop(*_: Any, **__: Any) -> Any:
        raise ObdError("This is where the work would begin.", "It does not in this test.")

    monkeypatch.setattr("os.fsync", lambda _: None)  # the disk is not what is tried
    monkeypatch.setattr("obdbench.execution.run.get_executor", lambda name: lambda *_: None)
    monkeypatch.setattr("obdbench.tuning.asha.search_with_asha", stop)
    monkeypatch.setattr("obdbench.collection.recipe.build", stop)
    monkeypatch.setattr("obdbench.offline_rl.trainer.TeacherTraining.advance", stop)
    monkeypatch.setattr("obdbench.reporting.pages.draw_plots", lambda *_: [])
    monkeypatch.setattr(
        "obdbench.teachers.published_scores.evaluate_teacher", lambda *_: np.zeros(1)
    )
    handler = signal.getsignal(signal.SIGTERM)

    def call(arguments: list[str]) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return ended.value.code, captured.err

    yield call
    signal.signal(signal.SIGTERM, handler)


def assert_handled(code: int, err: str) -> None:
    """Done, or some trial failed, or one line that says what was wrong."""
    assert code in (0, 1, 2)
    assert "Unexpected" not in err
    if code == 2 and not err.startswith("Usage: obdbench "):  # help, where no command was given
        *_, last = err.splitlines()
        assert last.startswith("obdbench: ")


@pytest.mark.reliability(
    "input",
    "arguments of every command",
    injection="hypothesis: wrong names, huge and negative numbers, empty strings, Unicode, NUL, "
    "folders for files, TOML junk",
    outcome="done, or one line and exit code 2; never a traceback",
)
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_invalid_arguments(
    path: tuple[str, ...], program: Program, attempts: AttemptCounter
) -> None:
    codes = set()

    @examples(10 + 3 * len(COMMANDS[path].params))
    @given(calls(path))
    def check(arguments: list[str]) -> None:
        with attempts:
            code, err = program(arguments)
            codes.add(code)
            assert_handled(code, err)

    check()
    assert 2 in codes or path == ("data", "list")


@pytest.mark.reliability(
    "input",
    "words that are no command",
    injection="hypothesis: arbitrary text, global options",
    outcome="one line and exit code 2, or help",
)
def test_invalid_commands(program: Program, attempts: AttemptCounter) -> None:
    words = st.one_of(junk(), st.sampled_from(["run", "data", "--help", "-h", "--version", "list"]))

    @examples(50)
    @given(st.lists(words, max_size=3))
    def check(arguments: list[str]) -> None:
        with attempts:
            assert_handled(*program(arguments))

    check()


@pytest.mark.slow
@pytest.mark.reliability(
    "input",
    "arguments of every command, one by one",
    injection="a list of hostile words, each in the place of each argument",
    outcome="done, or one line and exit code 2; never a traceback",
)
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_word_everywhere(
    path: tuple[str, ...], program: Program, attempts: AttemptCounter
) -> None:
    required = [param for param in COMMANDS[path].params if not param.opts[0].startswith("-")]
    for param in COMMANDS[path].params:
        if getattr(param, "is_flag", False):
            continue
        for word in INVALID_WORDS:
            words = [VALID_WORDS[p.name][0] for p in required if p is not param]
            if param in required:
                words += ["--", word] if word.startswith("-") else [word]
            else:
                words = [f"{param.opts[0]}={word}", *words]
            with attempts:
                assert_handled(*program([*path, *words]))
