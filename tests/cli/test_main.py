"""The command line: quick, with exit codes that mean something and errors of one line."""

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from pydantic import ValidationError
from support.paths import TOY_PLUGIN as TOY
from support.processes import run_environment

from obdbench import registry
from obdbench.cli import main as cli
from obdbench.cli import run as run_command
from obdbench.cli.options import parse_assignments
from obdbench.distillation.settings import DistillSettings, resolve_settings
from obdbench.errors import InvalidSettingError, ObdError
from obdbench.execution.config import without_folders
from obdbench.execution.run import RunSummary
from obdbench.experiments.spec import TrialSpec
from obdbench.results.record import (
    Environment,
    Manifest,
    Point,
    Result,
    read_json,
    write_json,
)
from obdbench.tasks.task import TASKS

SUITE = """
datasets = ["toy/hopper-toy-v0"]
objectives = ["random", "student"]
protocols = ["toy"]
seeds = [0, 1]
[settings]
pairs = 4
inner_steps = 2
steps = 4
batch = 8
architecture = "mlp2"
evaluate_at = [0.0, 0.5, 1.0]
"""


@pytest.fixture
def call(call, tmp_path, in_process):
    """The command line, where there is a suite of toys."""
    (tmp_path / "toy.toml").write_text(SUITE)
    return call


RUN = ("run", "toy.toml", "--plugin", TOY, "--workers", "1")


def interpreter(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=run_environment(),
        check=False,
        **options,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["list", "objectives"], ["run", "--help"]])
def test_help_and_listings_import_nothing_heavy(arguments):
    code = (
        "import sys\nfrom obdbench.cli.main import main\n"
        f"try:\n    main({arguments!r})\n"
        "except SystemExit as ended:\n"
        "    heavy = {'torch', 'ray', 'pandas', 'numpy', 'mujoco'} & set(sys.modules)\n"
        "    print('HEAVY', sorted(heavy), ended.code)\n"
    )
    assert interpreter("-c", code).stdout.splitlines()[-1] == "HEAVY [] 0"


@pytest.mark.benchmark
@pytest.mark.parametrize("arguments", [["--help"], ["list", "objectives"]])
def test_help_and_listings_take_less_than_half_a_second(arguments):
    times = []
    for _ in range(5):
        began = time.perf_counter()
        assert interpreter("-m", "obdbench", *arguments).returncode == 0
        times.append(time.perf_counter() - began)
    assert min(times) < 0.5


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("objectives", "av-pbc"),
        ("datasets", "embedded/hopper-medium-replay-v1"),
        ("protocols", "cross-architecture"),
        ("architectures", "residual"),
        ("suites", "smoke"),
        ("presets", "paper"),
        ("settings", "pairs"),
    ],
)
def test_list(call, kind, expected):
    code, out, err = call("list", kind)
    assert (code, err) == (0, "")
    assert expected in [line.split()[0] for line in out.splitlines()]
    assert all(len(line.split(maxsplit=1)) == 2 for line in out.splitlines()), "says nothing"
    assert "None" not in out


@pytest.mark.reliability(
    "input",
    "Wrong calls of the command line",
    injection="by hand: misspelt names, values out of bounds, contradictions",
    outcome="one line, exit code 2, nothing written",
)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "objectivs"], "Did you mean objectives"),
        (["rnu"], "Did you mean 'run'?"),
        (["run"], "Missing"),
        (["run", "qiuck"], "Did you mean quick?"),
        (["run", "quick", "--objectiv", "pbc"], "--objective"),
        (["run", "quick", "--objective", "pcb"], "Did you mean"),
        (["run", "quick", "--dataset", "embedded/hoper-medium-v1"], "Did you mean"),
        (["run", "quick", "--protocol", "defalt"], "Did you mean default?"),
        (["run", "quick", "--executor", "rey"], "Did you mean ray?"),
        (["run", "quick", "--address", "auto"], "--executor ray"),
        (["run", "quick", "--seeds", "4-1"], "smaller seed first"),
        (["run", "quick", "--set", "pairs"], "key=value"),
        (["run", "quick", "--set", "pairs=0"], "greater than or equal to 1"),
        (["run", "quick", "--set", "pairs=0"], "`obdbench list settings`"),
        (["run", "quick", "--set", "evaluate_at=0.5"], "evaluate_at=[0, 0.5, 1]"),
        (["run", "quick", "--set", "evaluate_at=0,1"], "evaluate_at=[0, 0.5, 1]"),
        (["run", "quick", "--set", "piars=3"], "Did you mean pairs?"),
        (["run", "quick", "--set", "beta=1"], "as in 'av-pbc (beta=VALUE)'"),
        (["run", "quick", "--preset", "papre"], "Did you mean paper?"),
        (["run", "quick", "--workers", "0"], "--workers"),
        (["run", "quick", "--timeout", "-1"], "--timeout"),
        (["run", "quick", "--resume", "--fresh"], "contradict"),
        (["run", "quick", "--retry-failed", "--fresh"], "contradict"),
        (["run", "quick", "--device", "cuda:99"], "--device cpu"),
        (["run", "quick", "--preset", "thorough", "--dry-run"], "set state_source=smoothed"),
        (["run", "quick", "--set", "solver=label-solving"], "set solver=full"),
        (["run", "nowhere.toml"], "no suite file"),
        (["run", "quick", "--plugin", "nowhere.py"], "cannot be read"),
        (["compare", "pbc"], "two objectives"),
        (["compare", "av_pbc", "av-pbc", "avpbc"], "two objectives"),
        (["leaderboard", "--check", "--html"], "--check cannot be combined"),
        (["leaderboard", "--overlay", "results"], "--overlay needs --html"),
        (["leaderboard", "--check", "--publish", "results/toy"], "--check cannot be combined"),
        (["leaderboard", "--publish", "."], "holds no results to publish"),
        (["validate", "nowhere.py"], "cannot be read"),
        (["show", "nowhere.json"], "There is no file"),
        (["tune", "pbc"], "no setting to search"),
        (["tune", "pbc", "--param", "outer_lr=3:1"], "is not a range"),
        (["tune", "pbc", "--param", "outer_rl=1:3"], "Did you mean outer_lr"),
        (["tune", "random", "--param", "outer_lr=1:3"], "no setting to tune"),
        (["tune", "sdw", "--param", "outer_lr=1:3", "--set", "tau=1"], "--param tau=VALUE"),
        (["tune", "q-pbc", "--param", "solver=full,loss-matching"], "set solver=full"),
        (["tune", "pbc", "--param", "outer_lr=1:3", "--criterion", "online"], "offline"),
        (["tune", "pbc", "--param", "outer_lr=1:3", "--name", "paper"], "not a valid preset name"),
    ],
)
def test_wrong_calls_are_one_line_and_exit_with_2(call, tmp_path, arguments, message):
    code, out, err = call(*arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert err.startswith("obdbench: ")
    assert [path.name for path in tmp_path.iterdir()] == ["toy.toml"]  # nothing half-written


def test_more_pairs_than_data_and_unwritable_output_leave_nothing(call, tmp_path):
    code, _, err = call(*RUN, "--set", "pairs=301", "--out", "new/results")
    assert code == 2
    assert {"300", "301"} <= set(err.split())
    (tmp_path / "file").write_text("")
    code, _, err = call(*RUN, "--out", "file")
    assert code == 2
    assert "Cannot write" in err
    assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new", "toy.toml"]
    assert list((tmp_path / "new").iterdir()) == []


def test_a_dry_run_tells_trials_apart(call, tmp_path):
    objectives = '["student", { name = "student", params = { pause = 0.5 } }]'
    (tmp_path / "two.toml").write_text(SUITE.replace('["random", "student"]', objectives))
    code, out, _ = call("run", "two.toml", "--plugin", TOY, "--dry-run")
    assert code == 0
    first, second = (line.split("  to run   ")[1] for line in out.splitlines()[:2])
    assert first == "toy/hopper-toy-v0 student toy (2 seeds)"
    assert second == "toy/hopper-toy-v0 student (pause=0.5) toy (2 seeds)"


def failed_run(store, specs, error="reason"):
    """The summary of a run in which every trial failed."""
    results = {spec.key: Result.unfinished(spec, "toy", "failed", error) for spec in specs}
    return RunSummary(store, specs, results)


def test_several_failures_have_a_traceback_each(spec, store):
    specs = [spec(steps=steps) for steps in (4, 5, 6)]
    for logged in specs[:2]:
        store.log_path(logged.key).write_text("Traceback")
    text = run_command.describe_tracebacks(failed_run(store, specs))
    assert text == f"Tracebacks: {store.folder / 'KEY.log'} for each KEY above."


def test_run_resume_show_and_dry_run(call, tmp_path):
    code, out, _ = call(*RUN, "--dry-run")
    assert code == 0
    assert "2 trials, 2 to run. About" in out
    assert not (tmp_path / "results").exists()
    code, out, err = call(*RUN, "--objective", "random")
    assert code == 0, err
    assert out.endswith(f"1 ok in {tmp_path / 'results' / 'toy'}\n")
    assert "average" in out
    code, _, err = call(*RUN)
    assert code == 2
    assert "results of 1 of these 2 trials" in err
    assert "--resume" in err
    code, out, err = call(*RUN, "--resume")
    assert code == 0, err
    assert out.endswith(f"2 ok in {tmp_path / 'results' / 'toy'}\n")
    assert "1 trials" in err
    code, out, err = call(*RUN, "--resume")
    assert (code, err) == (0, "")
    code, out, _ = call(*RUN, "--resume", "--dry-run")
    assert out.count("done") == 2
    assert "Nothing to do." in out
    keys = set(json.loads((tmp_path / "results/toy/manifest.json").read_text())["trials"])
    assert {path.stem for path in (tmp_path / "results/toy").glob("*.json")} == keys | {"manifest"}
    code, out, err = call("show", f"results/toy/{min(keys)}.json")
    assert code == 0, err
    assert "toy/hopper-toy-v0" in out
    (synset, *_) = sorted((tmp_path / "results/toy/synsets").rglob("*.safetensors"))
    code, out, _ = call("show", str(synset))
    assert code == 0
    assert "states" in out
    code, out, err = call("compare", "student", "random", "--suite", "toy.toml", "--plugin", TOY)
    assert code == 0, err
    assert "student" in out
    assert not list((tmp_path / "results").glob("compare*"))  # both were there


def test_tune_limits_the_memory_of_candidates(call, monkeypatch):
    pytest.importorskip("ray")
    configs = []

    def stop(search, *, name, config):
        configs.append(config)
        raise ObdError("stopped")

    monkeypatch.setattr("obdbench.tuning.api.tune_settings", stop)
    assert call("tune", "pbc", "--param", "outer_lr=1:3", "--memory", "0.5")[0] == 2
    assert [config.memory_bytes for config in configs] == [2**29]


COMPARE = ("--suite", "toy.toml", "--plugin", TOY, "--workers", "1")


def test_comparisons_take_aliases_and_rows_by_their_full_name(call, tmp_path, monkeypatch):
    variants = ", ".join(
        f'{{ name = "student", params = {{ pause = {n} }} }}' for n in (0.002, 0.001)
    )
    (tmp_path / "toy.toml").write_text(SUITE.replace('"student"', variants))
    monkeypatch.setitem(registry.objectives._aliases, "student_alias", "student")
    code, _, err = call("compare", "student_alias", "random", *COMPARE)
    assert code == 2
    assert "student (pause=0.001), student (pause=0.002)" in err.splitlines()[-1]
    code, out, err = call("compare", "student_alias (pause=0.002)", "random", *COMPARE)
    assert code == 0, err
    assert "**student (pause=0.002) against random**" in out
    code, out, err = call("compare", "student (pause=0.002)", "student (pause=0.001)", *COMPARE)
    assert code == 0, err
    assert "**student (pause=0.002) against student (pause=0.001)**" in out


def test_comparisons_take_controls_and_rows_of_the_whole_data(call, tmp_path):
    code, out, err = call("compare", "student", "top-return (share=0.2)", *COMPARE)
    assert code == 0, err
    assert "**student against top-return (share=0.2)**" in out
    spec = TrialSpec(
        dataset="toy/hopper-toy-v0", objective="behavior", protocol="toy", seeds=(0, 1)
    )
    expert = TASKS["hopper"].expert_return  # whose normalized return is 100
    points = [
        Point(seed=seed, step=0, arm="default", returns=[[expert]], normalized_return=100.0)
        for seed in (0, 1)
    ]
    hopper = Environment(env_id="Hopper-v4", device="cpu", threads=1, versions={})
    record = Result(
        key=spec.key, suite="toy", spec=spec, status="ok", points=points, environment=hopper
    )
    write_json(record, tmp_path / "results" / "toy" / f"{spec.key}.json")
    code, out, err = call("compare", "behavior", "student", *COMPARE)
    assert code == 0, err
    assert "**behavior against student**" in out


def test_comparisons_take_rows_of_other_solvers(call, tmp_path):
    code, out, err = call("compare", "student (solver=loss-matching)", "student", *COMPARE)
    assert code == 0, err
    assert "**student (solver=loss-matching) against student**" in out
    stored = (tmp_path / "results" / "compare-toy").glob("[!m]*.json")
    settings = [json.loads(path.read_text())["spec"]["settings"] for path in stored]
    assert {(s["solver"], s["draws"]) for s in settings} == {("loss-matching", 16), ("full", 1)}


def test_comparisons_try_again_what_did_not_end_well(call):
    code, out, err = call("compare", "student", "random", *COMPARE, "--timeout", "0.001")
    assert code == 1
    assert "2 timeout" in out
    assert "--resume" not in err  # which it does not take
    code, out, err = call("compare", "student", "random", *COMPARE)
    assert code == 0, err
    assert "**student against random**" in out


def test_comparisons_announce_in_one_line_what_they_run(call, tmp_path):
    folder = tmp_path / "results" / "compare-toy"
    code, _, err = call("compare", "student", "random", *COMPARE)
    assert code == 0, err
    assert err.startswith(f"2 of 2 trials have no result; they run now, into {folder}.\n")
    code, _, err = call("compare", "student (pause=0.001)", "random", *COMPARE)
    assert err.startswith("1 of 2 trials have no result;")
    code, _, err = call("compare", "student", "random", *COMPARE)
    assert (code, err) == (0, "")


def test_comparisons_of_two_suites_are_not_ranked_together(call, tmp_path):
    (tmp_path / "other.toml").write_text(SUITE.replace("steps = 4", "steps = 6"))
    for suite in ("toy", "other"):
        suite_options = ("--suite", f"{suite}.toml", "--plugin", TOY, "--workers", "1")
        assert call("compare", "student", "student (pause=0.001)", *suite_options)[0] == 0
    assert call("leaderboard", "--out", "results", "--to", "pages")[0] == 0
    for suite, steps in (("toy", 4), ("other", 6)):
        page = " ".join((tmp_path / "pages" / f"compare-{suite}.md").read_text().split())
        assert f"fast, {steps} steps" in page
        assert f"fast, {10 - steps} steps" not in page


def test_comparisons_add_nothing_to_published_results(call, tmp_path):
    assert call(*RUN, "--objective", "random")[0] == 0
    published = ("--publish", "results/toy", "--to", "boards")
    assert call("leaderboard", *published)[0] == 0
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("boards/**/*"))
    code, _, err = call("compare", "student", "random", *COMPARE, "--out", "boards/results")
    assert code == 2
    assert "1 of 2 trials have no result" in err
    assert "--out" in err
    assert err.count("\n") == 1
    after = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("boards/**/*"))
    assert after == before


def test_the_manifest_and_the_page_name_the_command_without_folders(call, tmp_path):
    assert call(*RUN, "--out", str(tmp_path / "results"))[0] == 0
    words = tuple(Path(TOY).name if word == TOY else word for word in RUN)
    assert call("leaderboard", "--out", "results", "--to", "pages")[0] == 0
    page = (tmp_path / "pages" / "toy.md").read_text()
    command = page.split("```bash\n", 1)[1].split("\n```", 1)[0].replace(" \\\n", " ")
    assert shlex.split(command) == ["obdbench", *words[:-2]]  # without the number of workers
    assert str(tmp_path) not in page
    manifest = read_json(Manifest, tmp_path / "results" / "toy" / "manifest.json")
    assert set(manifest.commands.values()) == {(*words, "--out", "results")}


@pytest.mark.parametrize(
    ("word", "short"),
    [
        ("--out=/data/results", "--out=results"),
        ("--dataset=file:/data/a.npz#hopper", "--dataset=file:a.npz#hopper"),
        ("file:/data/a.npz=/models/sac.zip", "file:a.npz=sac.zip"),
        ("results/own", "results/own"),
    ],
)
def test_folders_of_absolute_paths_are_removed(word, short):
    assert without_folders(word) == short


@pytest.mark.parametrize("settings", [[], 3, "fast", None])
def test_settings_of_a_file_that_are_no_table_are_refused(settings):
    with pytest.raises(ValidationError):
        DistillSettings.model_validate_json(json.dumps(settings))


STEERING = "\x1b]0;title\x07 \x9b2J boo"


def test_errors_do_not_steer_the_terminal(capsys, spec, store):
    trial = spec()
    with pytest.raises(typer.Exit):
        run_command.finish(failed_run(store, [trial], STEERING), "obdbench run toy.toml")
    cli.print_error(STEERING + "\udcff")
    err = capsys.readouterr().err
    assert err.startswith(f"failed {trial.key}:  ]0;title   2J boo\n")
    assert err.endswith("obdbench:  ]0;title   2J boo\\udcff\n")


def test_a_verdict_does_not_steer_the_terminal(capsys):
    run_command.print_comparison(f"{STEERING}\n\nnext")
    assert capsys.readouterr().out == " ]0;title   2J boo\n\nnext\n"


def test_a_failed_trial_exits_with_1_and_is_named(call, tmp_path):
    code, out, err = call(*RUN, "--objective", "raises", "--objective", "random")
    assert code == 1
    assert "1 ok, 1 failed" in out
    assert "ZeroDivisionError: the reason of it" in err
    (log,) = (tmp_path / "results" / "toy").glob("*.log")
    assert str(log) in err
    assert "`obdbench validate`" in err
    assert "toy_plugin.py" in log.read_text()
    assert "Run the failed trials again with: obdbench run" in err
    assert "--retry-failed" in err
    assert "Traceback (most recent" not in err


def test_interrupts_exit_with_130_and_say_how_to_go_on(tmp_path):
    (tmp_path / "toy.toml").write_text(SUITE)
    arguments = [*RUN, "--objective", "sleeps", "--out", str(tmp_path / "results")]
    process = subprocess.Popen(
        [sys.executable, "-m", "obdbench", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=run_environment(),
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("results/toy/.work/*/lock")):  # a trial has started
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)  # as a scheduler does; Ctrl-C takes the same way
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "continue with: obdbench run toy.toml" in err
    assert "--resume" in err
    assert "Traceback" not in err


def test_validate(call, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from obdbench.objectives.dbc import DBC\n\n\n"
        "class Mine(DBC):\n    name = 'cli-mine'\n    uses_teacher = False\n"
    )
    code, out, err = call("validate", "mine.py")
    assert (code, err) == (0, "")
    assert out.startswith("cli-mine: valid")
    (tmp_path / "bad.py").write_text(
        "from obdbench.objectives.dbc import DBC\n\n\n"
        "class Bad(DBC):\n    name = 'cli-bad'\n    uses_teacher = False\n\n"
        "    def loss(self, actions, batch):\n        return actions.mean()\n"
    )
    code, out, _ = call("validate", "bad.py")
    assert code == 1
    assert "cli-bad: INVALID" in out
    assert "bad.py:8" in out


def test_debug_shows_the_traceback(call):
    from obdbench.errors import UnknownNameError

    with pytest.raises(UnknownNameError):
        cli.main(["run", "qiuck", "--debug"])


def test_version(call):
    from obdbench.version import __version__

    assert call("--version") == (0, f"obdbench {__version__}\n", "")


def test_assignments():
    texts = ["a=1", "b=0.5", "c=true", "d=cosine", "e=[0.0, 1.0]", "f=null", "g='x y'", "h=none"]
    assert parse_assignments(texts) == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": "cosine",
        "e": [0.0, 1.0],
        "f": None,
        "g": "x y",
        "h": "none",
    }
    assert parse_assignments(["i="]) == {"i": ""}
    with pytest.raises(InvalidSettingError):
        parse_assignments(["=3"])


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [("noise=none", "noise", "none"), ("clip=none", "clip", None), ("clip=null", "clip", None)],
)
def test_none_is_a_choice_or_turns_a_setting_off(text, name, value):
    settings = resolve_settings("paper", parse_assignments([text]))
    assert getattr(settings, name) == value
