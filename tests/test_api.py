"""The public interface: names, signatures, types, entry points and commands.

A change of these tests affects users and belongs in the changelog.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer
from support.paths import ROOT

import obdbench
from obdbench.cli import main as cli
from obdbench.registry import REGISTRIES

REGISTER = (
    "(name: 'str', target: 'Any' = None, *, aliases: 'tuple[str, ...]' = (), "
    "summary: 'str' = '', origin: 'str | None' = None) -> 'Any'"
)
SIGNATURES = {
    "Dataset": "(id: 'str', task: 'Task', observations: 'Array', actions: 'Array', "
    "rewards: 'Array', terminals: 'Array', next_observations: 'Array | None' = None, "
    "timeouts: 'Array | None' = None, card: 'Mapping[str, Any]' = <factory>) -> None",
    "Evaluation": "(protocol: 'str', scores: 'dict[str, float]', "
    "returns: 'dict[str, list[list[float]]]') -> None",
    "Objective": "()",
    "Synset": "(states: 'Array', actions: 'Array', standardizer: 'Standardizer', task: 'Task', "
    "card: 'Mapping[str, Any]' = <factory>) -> None",
    "Teacher": "(id: 'str', actor: 'Layers', critics: 'tuple[Layers, ...]', "
    "standardizer: 'Standardizer', log_std_multiplier: 'float' = 1.0, "
    "log_std_offset: 'float' = -1.0, card: 'Mapping[str, Any]' = <factory>) -> None",
    "distill": "(dataset: 'Dataset | str', teacher: 'Teacher | str | None' = None, "
    "objective: 'str | Objective' = 'av-pbc', *, preset: 'str' = 'fast', seed: 'int' = 0, "
    "snapshot: 'Path | str | None' = None, progress: 'bool' = True, device: 'str' = 'cpu', "
    "**overrides: 'Any') -> 'Synset'",
    "evaluate": "(synset: 'Synset | Path | str', protocol: 'str | Protocol' = 'default', *, "
    "seed: 'int | None' = None, **params: 'Any') -> 'Evaluation'",
    "leaderboard": "(results: 'str | Path' = 'results', out: 'str | Path' = 'leaderboards') "
    "-> 'list[Path]'",
    "load_dataset": "(dataset_id: 'str') -> 'Dataset'",
    "load_teacher": "(dataset_id: 'str', teacher: 'str | None' = None) -> 'Teacher'",
    "register_architecture": REGISTER,
    "register_dataset": REGISTER,
    "register_objective": REGISTER,
    "register_protocol": REGISTER,
    "register_teacher": REGISTER,
    "Protocol": "(*, policies: 'int' = 10, episodes: 'int' = 3, points: 'int | None' = None, "
    "steps: 'int' = 100, lr: 'float' = 0.1) -> None",
    "SelectionMethod": "()",
    "Task": "(name: 'str', env_id: 'str', random_return: 'float | None', "
    "expert_return: 'float | None', observation_size: 'int', action_size: 'int', "
    "episode_limit: 'int' = 1000, "
    "action_bounds: 'tuple[tuple[float, ...], tuple[float, ...]] | None' = None, "
    "make_environment: 'Callable[[], Any] | None' = None) -> None",
    "register_task": "(name: 'str', environment: 'str | Callable[[], Any]', "
    "reference_returns: 'tuple[float, float] | None' = None, *, "
    "episode_limit: 'int | None' = None, summary: 'str' = '') -> 'EnvironmentTask'",
    "load_results": "(folder: 'Path | str' = 'results', *, strict: 'bool' = False) "
    "-> 'pd.DataFrame'",
    "register_selection": REGISTER,
    "register_solver": REGISTER,
    "register_state_source": REGISTER,
    "Solver": "(settings: 'DistillSettings', memory: 'int' = 2147483648) -> 'None'",
    "StateSource": "(dataset: 'Dataset', settings: 'DistillSettings') -> 'None'",
    "train_teacher": "(dataset: 'Dataset | str', algorithm: 'str' = 'td3-bc', *, "
    "steps: 'int' = 200000, seed: 'int' = 0, settings: 'dict[str, Any] | None' = None, "
    "policy: 'Teacher | str | None' = None, "
    "episodes: 'int' = 20, progress: 'bool' = True) -> 'Teacher'",
    "run": "(suite: 'str', *, objectives: 'Names' = (), datasets: 'Names' = (), "
    "protocols: 'Names' = (), seeds: 'Sequence[int] | str' = (), preset: 'str | None' = None, "
    "settings: 'Mapping[str, Any] | None' = None, teachers: 'Names' = (), "
    "plugins: 'Names' = (), out: 'str | Path' = 'results', **execution: 'Any') -> 'list[Result]'",
}
MEMBERS = {
    "Dataset": "action_size actions card checksum episode_returns id "
    "next_observations observation_size observations rewards standardizer states task "
    "terminals "
    "timeouts",
    "Evaluation": "normalized_return protocol returns scores",
    "Objective": "distills is_squared_distance loss name noise_columns prepare settings "
    "uses_critic uses_teacher",
    "SelectionMethod": "name select uses_critic uses_teacher",
    "Solver": "activation_bytes cloning default_settings name needs_squared_distance "
    "relative_cost required_bytes required_settings step uses_infinite_width",
    "StateSource": "added_share adds_states card fixed_dataset is_due kept_rounds name new_states "
    "uses_next_observations",
    "Synset": "actions card export load observations save standardizer states task",
    "Teacher": "act action_size actor card checksum columns critics distribution id load "
    "log_std_multiplier log_std_offset observation_size require_critics save standardizer "
    "tensors value",
}
COMMANDS = {
    "run": "suite --objective --dataset --task --protocol --seeds --preset --set --teacher "
    "--plugin --executor --address --workers --threads --memory --device --timeout --log "
    "--resume --fresh --retry-failed --dry-run --fail-fast --out",
    "compare": "objectives --dataset --task --suite --protocol --seeds --preset --set --teacher "
    "--plugin --executor --address --workers --threads --memory --device --timeout --latex --out",
    "tune": "objective --dataset --task --param --trials --criterion --name --seeds --preset --set "
    "--teacher --plugin --address --workers --threads --memory --device --search-seed",
    "teach": "dataset --task --algorithm --policy --steps --seed --set --plugin --threads "
    "--episodes --export --fresh --card",
    "list": "kind --plugin",
    "leaderboard": "--out --to --check --html --overlay --strict --publish",
    "show": "path",
    "export": "source --format --to",
    "validate": "plugin --param",
    "hub push": "source repository --private --message",
    "hub pull": "repository --to --revision",
    "data list": "pattern",
    "data fetch": "ids --progress",
    "data build": "ids --run-folder --out --steps --transitions --progress",
    "data verify": "ids --episodes --folder --task --plugin",
}
GROUPS = {
    "objectives": "obdbench.objectives",
    "datasets": "obdbench.datasets",
    "protocols": "obdbench.protocols",
    "architectures": "obdbench.architectures",
    "teachers": "obdbench.teachers",
    "selections": "obdbench.selections",
    "state_sources": "obdbench.state_sources",
    "solvers": "obdbench.solvers",
    "tasks": "obdbench.tasks",
}
CONSUMER = '''
from pathlib import Path

import numpy as np
import obdbench
from obdbench import Dataset, Evaluation, Objective, Synset, Teacher
from obdbench.objectives.objective import Batch
from torch import Tensor


class Mine(Objective):
    """A user's objective."""

    name = "mine"

    def prepare(
        self, dataset: Dataset, teacher: Teacher | None, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        return {}

    def loss(self, actions: Tensor, batch: Batch) -> Tensor:
        error: Tensor = actions - batch.actions
        return error.square().mean((-1, -2))


obdbench.register_objective("mine", Mine)
dataset: Dataset = obdbench.load_dataset("embedded/hopper-medium-replay-v1")
teacher: Teacher = obdbench.load_teacher(dataset.id)
synset: Synset = obdbench.distill(dataset, teacher, "mine", seed=1, steps=10)
score: Evaluation = obdbench.evaluate(synset, "default", seed=1)
reveal_type(score.normalized_return)
reveal_type(obdbench.leaderboard("results"))
for result in obdbench.run("smoke", seeds=[0]):
    reveal_type(result.status)
obdbench.distill(dataset, teacher, objective=3)
obdbench.load_dataset(Path("x"))
'''


def test_public_names() -> None:
    assert sorted(obdbench.__all__) == sorted([*SIGNATURES, "__version__"])
    assert dir(obdbench) == sorted(obdbench.__all__)
    for name in obdbench.__all__:
        assert getattr(obdbench, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = obdbench.nonsense


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name: str) -> None:
    public = getattr(obdbench, name)
    assert str(inspect.signature(public)) == SIGNATURES[name]


@pytest.mark.parametrize("name", MEMBERS)
def test_members(name: str) -> None:
    members = getattr(obdbench, name)
    names = {*vars(members), *inspect.get_annotations(members)}
    assert " ".join(sorted(n for n in names if not n.startswith("_"))) == MEMBERS[name]


def test_distill_is_a_function(toy_dataset: obdbench.Dataset) -> None:
    synset = obdbench.distill(
        toy_dataset, objective="dbc", preset="tiny", steps=1, pairs=2, progress=False
    )
    assert isinstance(synset, obdbench.Synset)


def test_leaderboard_writes_pages_of_every_suite(tmp_path: Path) -> None:
    results = ROOT / "tests" / "fixtures" / "results"
    pages = obdbench.leaderboard(results, tmp_path)
    assert {"quick.md", "d4rl.md"} <= {path.name for path in pages}
    assert "| av-pbc |" in (tmp_path / "quick.md").read_text()


def list_commands(command: object, prefix: str = "") -> dict[str, str]:
    """Map every command to its arguments and options."""
    subcommands: dict[str, object] = getattr(command, "commands", {})
    if not subcommands:
        params = getattr(command, "params", [])
        return {prefix.strip(): " ".join(param.opts[0] for param in params)}
    commands: dict[str, str] = {}
    for name, subcommand in subcommands.items():
        commands |= list_commands(subcommand, f"{prefix} {name}")
    return commands


def test_commands_and_their_options() -> None:
    assert list_commands(typer.main.get_command(cli.app)) == COMMANDS


def test_entry_point_groups() -> None:
    assert {name: known.group for name, known in REGISTRIES.items()} == GROUPS


def test_the_program_is_an_entry_point() -> None:
    """Needs an installed distribution."""
    scripts = entry_points(group="console_scripts", name="obdbench")
    assert {script.value for script in scripts} == {"obdbench.cli.main:main"}


@pytest.mark.slow
def test_types_are_exported(tmp_path: Path) -> None:
    """Strict mypy accepts valid use and rejects the two invalid calls."""
    pytest.importorskip("mypy")
    assert (ROOT / "obdbench" / "py.typed").is_file()
    (tmp_path / "consumer.py").write_text(CONSUMER)
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n[mypy-obdbench.*]\nfollow_imports = silent\n"
        f"[mypy-torch.*,numpy.*]\nfollow_imports = silent\nmypy_path = {ROOT}\n"
    )
    options = ["--config-file", "mypy.ini", "--cache-dir", str(ROOT / ".mypy_cache" / "consumer")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "consumer.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.replace("builtins.", "").splitlines()
    messages = [line.partition("consumer.py:")[2].partition(": ")[2] for line in lines]
    assert [line for line in messages if line.startswith("note: Revealed")] == [
        'note: Revealed type is "float"',
        'note: Revealed type is "list[pathlib.Path]"',
        "note: Revealed type is \"Literal['ok'] | Literal['failed'] | Literal['timeout']\"",
    ], done.stdout
    wrong = [line for line in messages if line.startswith("error")]
    assert len(wrong) == 2, done.stdout
    assert 'Argument "objective" to "distill"' in wrong[0]
    assert 'Argument 1 to "load_dataset"' in wrong[1]
