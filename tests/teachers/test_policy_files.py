"""Policies of other libraries as teachers, and hostile files of the same formats."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from support import policy_files as files
from support.toy_suite import write_hopper

from obdbench.datasets.dataset import Dataset
from obdbench.datasets.loading import load_dataset
from obdbench.distillation.input_checks import check_inputs, check_teacher_task
from obdbench.distillation.settings import resolve_settings
from obdbench.errors import InvalidDataError, ObdError
from obdbench.execution.config import ExecutionConfig
from obdbench.execution.run import execute, plan
from obdbench.experiments.suite import load_suite
from obdbench.objectives.objective import make_objective
from obdbench.teachers.loading import load_teacher

DATASET = "file:hopper-mine.npz"
Maker = Callable[[Path], Path]


@pytest.fixture(autouse=True)
def _dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_hopper(tmp_path / "hopper-mine.npz")
    torch.manual_seed(0)


@pytest.mark.parametrize("make", [*files.RAW_OBSERVATIONS, *files.STANDARDIZED])
def test_a_teacher_computes_what_the_file_contains(
    make: Callable[[Path], files.Policy], tmp_path: Path
) -> None:
    policy, dataset = make(tmp_path), load_dataset(DATASET)
    raw = dataset.observations[:50]
    inputs = dataset.states[:50] if make in files.STANDARDIZED else raw
    states = torch.from_numpy(np.asarray(inputs))
    teacher = load_teacher(DATASET, str(policy.path))
    check_teacher_task(teacher, dataset)
    library, _, file = str(teacher.card["source"]).partition(", ")
    assert (file, teacher.id) == (policy.path.name, f"{library.lower()}:{file}")
    with torch.no_grad():
        actions = torch.tanh(policy.mean(states)).numpy()
        np.testing.assert_allclose(teacher.act(raw), actions, atol=1e-5)
        std = teacher.distribution(raw)[1].numpy()
        if policy.log_std is None:
            assert std.max() < 1e-8
        else:
            np.testing.assert_allclose(std, policy.log_std(states).exp().numpy(), rtol=1e-4)
        if policy.value is not None:
            expected = policy.value(states, torch.from_numpy(actions)).numpy()
            np.testing.assert_allclose(teacher.value(raw, actions), expected, atol=1e-5)
    assert bool(teacher.critics) == (policy.value is not None)


def test_a_policy_without_critic_serves_pbc_only(tmp_path: Path) -> None:
    teacher = load_teacher(DATASET, str(files.d4rl_policy(tmp_path).path))
    dataset, rng = load_dataset(DATASET), np.random.default_rng(0)
    assert "teacher_actions" in make_objective("pbc").prepare(dataset, teacher, rng)
    with pytest.raises(InvalidDataError, match="no critic"):
        make_objective("av-pbc").prepare(dataset, teacher, rng)


@pytest.mark.parametrize("name", ["av-pbc", "sdw", "q-pbc", "top-q", "sdr"])
def test_what_needs_a_critic_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    policy = str(files.d4rl_policy(tmp_path).path)
    teacher, dataset = load_teacher(DATASET, policy), load_dataset(DATASET)
    settings = resolve_settings("fast", {"pairs": 16})
    with pytest.raises(InvalidDataError, match=f"obdbench teach {DATASET} --algorithm fitted-q"):
        check_inputs(make_objective(name), settings, dataset, teacher)
    started_from_values = settings.model_copy(update={"init": "top-q"})
    with pytest.raises(InvalidDataError, match="no critic"):
        check_inputs(make_objective("pbc"), started_from_values, dataset, teacher)
    without_values = ("pbc", {}), ("sdw", {"base": "pbc"}), ("random", {"labels": "teacher"})
    for objective, params in without_values:
        check_inputs(make_objective(objective, params), settings, dataset, teacher)


def test_a_run_with_such_a_teacher_is_refused_when_it_is_planned(tmp_path: Path) -> None:
    policy = files.d4rl_policy(tmp_path).path.rename("policy.hdf5")
    suite = load_suite("smoke").select(
        datasets=[DATASET], objectives=["pbc", "av-pbc"], teachers=[str(policy)]
    )
    with pytest.raises(InvalidDataError, match="no critic"):
        execute(plan(suite, ExecutionConfig(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_cal_ql_checkpoint_takes_the_moments_of_the_dataset(
    tmp_path: Path, toy_dataset: Dataset
) -> None:
    content = {
        "actor": {
            **files.prefixed("base_network", files.mlp(11, 6)),
            "log_std_multiplier.constant": torch.tensor(1.0),
            "log_std_offset.constant": torch.tensor(-1.0),
        },
        "critic1": files.prefixed("network", files.mlp(14, 1)),
        "critic2": files.prefixed("network", files.mlp(14, 1)),
    }
    teacher = load_teacher(DATASET, str(files.write_torch(tmp_path / "a.pt", content)))
    moments = load_dataset(DATASET).standardizer
    np.testing.assert_array_equal(teacher.standardizer.mean, moments.mean)


def test_the_format_does_not_depend_on_the_name(tmp_path: Path) -> None:
    path = files.sb3_sac(tmp_path).path.rename(tmp_path / "policy.anything")
    assert load_teacher(DATASET, str(path)).card["algorithm"] == "SAC"


def test_an_hdf5_file_is_recognized_by_its_content(tmp_path: Path) -> None:
    path = files.d4rl_policy(tmp_path).path.rename(tmp_path / "policy.bin")
    assert load_teacher(DATASET, str(path)).card["algorithm"] == "SAC"


def test_a_text_in_a_giant_chunk_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = d4rl_giant_chunk(tmp_path)
    with pytest.raises(InvalidDataError, match="nonlinearity has chunks of 160,000,000 bytes"):
        load_teacher(DATASET, str(path))


def test_a_teacher_of_another_size_is_refused(tmp_path: Path) -> None:
    network = files.mlp(17, 6)
    path = files.write_sb3(tmp_path / "other.zip", files.prefixed("actor.mu", network))
    with pytest.raises(InvalidDataError, match="does not match hopper"):
        check_teacher_task(load_teacher(DATASET, str(path)), load_dataset(DATASET))


class Exploit:
    """Leaves a file behind if it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


def sb3_code(folder: Path) -> Path:
    return files.write_sb3(folder / "a.zip", {"actor.mu.0.weight": Exploit()})


def sb3_pickled_policy(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("policy.pth", pickle.dumps(Exploit()))
    return folder / "a.zip"


def sb3_bomb(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy.pth", b"\0" * (64 * 1024 * 1024))
    return folder / "a.zip"


def sb3_settings_bomb(folder: Path) -> Path:
    path = files.sb3_td3(folder).path
    with zipfile.ZipFile(folder / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy.pth", zipfile.ZipFile(path).read("policy.pth"))
        archive.writestr("data", b" " * (64 * 1024 * 1024))
    return folder / "b.zip"


def sb3_nan(folder: Path) -> Path:
    network = files.mlp(11, 3)
    with torch.no_grad():
        network[0].weight[0, 0] = float("nan")
    return files.write_sb3(folder / "a.zip", files.prefixed("actor.mu", network))


def sb3_tanh(folder: Path) -> Path:
    settings = {"policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.activation.Tanh'>"}}
    state = files.prefixed("actor.mu", files.mlp(11, 3))
    return files.write_sb3(folder / "a.zip", state, settings)


def sb3_relu6(folder: Path) -> Path:
    settings = {"policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.activation.ReLU6'>"}}
    state = files.prefixed("actor.mu", files.mlp(11, 3))
    return files.write_sb3(folder / "a.zip", state, settings)


def sb3_other_algorithm(folder: Path) -> Path:
    return files.write_sb3(folder / "a.zip", files.prefixed("action_net", files.mlp(11, 3)))


def sb3_list(folder: Path) -> Path:
    return files.write_sb3(folder / "a.zip", [1, 2])


def d3_code(folder: Path) -> Path:
    (folder / "a.d3").write_bytes(pickle.dumps({"torch": Exploit(), "config": "{}"}))
    return folder / "a.d3"


def d3_code_in_archive(folder: Path) -> Path:
    return files.write_d3(folder / "a.d3", {"policy": Exploit()})


def d3_without_policy(folder: Path) -> Path:
    return files.write_d3(folder / "a.d3", {"q_funcs": {}})


def d3_other_activation(folder: Path) -> Path:
    state = files.prefixed("_encoder._layers", files.mlp(11, 0, last=False))
    encoder = {"type": "vector", "params": {"activation": "tanh"}}
    return files.write_d3(folder / "a.d3", {"policy": state}, actor_encoder_factory=encoder)


def d3_other_bounds(folder: Path) -> Path:
    scaler = {"type": "min_max", "params": {"minimum": [-2.0] * 3, "maximum": [2.0] * 3}}
    return files.write_d3(folder / "a.d3", {"policy": {}}, action_scaler=scaler)


def corl_code(folder: Path) -> Path:
    return files.write_torch(folder / "a.pt", {"actor": Exploit()})


def corl_without_actor(folder: Path) -> Path:
    return files.write_torch(folder / "a.pt", {"critic_1": {}})


def corl_shared_numbers(folder: Path) -> Path:
    weight = torch.zeros(1).expand(4000, 4000)
    return files.write_torch(folder / "a.pt", {"actor": {"net.0.weight": weight}})


def d4rl_tanh(folder: Path) -> Path:
    return files.d4rl_policy(folder, "tanh").path


def d4rl_without_policy(folder: Path) -> Path:
    with h5py.File(folder / "a.hdf5", "w") as file:
        file["observations"] = np.zeros((4, 11))
    return folder / "a.hdf5"


def d4rl_link(folder: Path) -> Path:
    other = files.d4rl_policy(folder).path.rename(folder / "other.hdf5")
    with h5py.File(folder / "a.hdf5", "w") as file:
        file["metadata"] = h5py.ExternalLink(other.name, "metadata")
    return folder / "a.hdf5"


def d4rl_giant_chunk(folder: Path) -> Path:
    path = files.d4rl_policy(folder).path
    with h5py.File(path, "a") as file:
        group = file["metadata/policy"]
        del group["nonlinearity"]
        options = {"chunks": (20_000_000,), "maxshape": (None,), "compression": "gzip"}
        group.create_dataset("nonlinearity", shape=(1,), dtype="S8", **options)
    return path


def empty(folder: Path) -> Path:
    (folder / "a.zip").write_bytes(b"")
    return folder / "a.zip"


def text(folder: Path) -> Path:
    (folder / "a.pt").write_text("<html>404</html>")
    return folder / "a.pt"


def truncated(folder: Path) -> Path:
    path = files.sb3_sac(folder).path
    path.write_bytes(path.read_bytes()[:2000])
    return path


HOSTILE = [
    *(sb3_code, sb3_pickled_policy, sb3_bomb, sb3_settings_bomb, sb3_nan, sb3_tanh),
    sb3_relu6,
    *(sb3_other_algorithm, sb3_list, d3_code, d3_code_in_archive, d3_without_policy),
    *(d3_other_activation, d3_other_bounds, corl_code, corl_without_actor, corl_shared_numbers),
    *(d4rl_tanh, d4rl_without_policy, d4rl_link, d4rl_giant_chunk, empty, text, truncated),
]


@pytest.mark.parametrize("make", HOSTILE)
def test_a_hostile_file_is_one_line_and_executes_nothing(make: Maker, tmp_path: Path) -> None:
    path = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ObdError) as caught:
        load_teacher(DATASET, str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    assert "\x1b" not in message
    assert "trust the source" not in message  # PyTorch's advice to execute the file
    assert len(message) < 600
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("make", files.RAW_OBSERVATIONS + files.STANDARDIZED)
def test_damaged_bytes_are_one_line_or_a_valid_teacher(
    make: Callable[[Path], files.Policy], tmp_path: Path
) -> None:
    path = make(tmp_path).path
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(content)
        for position in rng.integers(len(damaged), size=3):
            damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        message = ""
        try:
            teacher = load_teacher(DATASET, str(path))
        except ObdError as error:
            message = str(error)
        assert "\n" not in message
        assert message or np.isfinite(teacher.act(np.zeros((1, 11), np.float32))).all()


def test_a_real_model_of_stable_baselines3_is_read(tmp_path: Path) -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    for algorithm in (sb3.SAC, sb3.TD3):
        model = algorithm("MlpPolicy", "Hopper-v4", seed=0, device="cpu")
        model.save(tmp_path / "model.zip")
        teacher = load_teacher(DATASET, str(tmp_path / "model.zip"))
        observations = load_dataset(DATASET).observations[:20]
        actions, _ = model.predict(observations, deterministic=True)
        np.testing.assert_allclose(teacher.act(observations), actions, atol=1e-5)
        tanh = {"activation_fn": torch.nn.Tanh}
        algorithm("MlpPolicy", "Hopper-v4", policy_kwargs=tanh, device="cpu").save("tanh.zip")
        with pytest.raises(InvalidDataError, match="Tanh"):
            load_teacher(DATASET, "tanh.zip")
