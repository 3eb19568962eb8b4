"""D4RL files: where they are found, what they give, what is checked of them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from obdbench.datasets import d4rl, references
from obdbench.datasets.d4rl import GenuineDataWarning
from obdbench.datasets.download import cache_path
from obdbench.datasets.loading import load_dataset
from obdbench.datasets.statistics import format_comparison
from obdbench.errors import FetchError, InvalidDataError, UnknownNameError
from obdbench.tasks.task import TASKS

NAME = "hopper-medium-replay-v2"


def write(path: Path, rows: int, moments=None, seed: int = 0) -> Path:
    """A file in D4RL's layout whose kept rows have exactly the given moments."""
    rng = np.random.default_rng(seed)
    timeouts = np.arange(rows) % 500 == 499
    observations = rng.normal(size=(rows, 11))
    if moments is not None:
        selected = np.flatnonzero(~timeouts[:-1])
        observations -= observations[selected].mean(0)
        observations = observations / observations[selected].std(0) * moments.std + moments.mean
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        options = {"compression": "gzip", "compression_opts": 1}
        file.create_dataset("observations", data=observations.astype(np.float32), **options)
        actions = rng.uniform(-1, 1, (rows, 3)).astype(np.float32)
        file.create_dataset("actions", data=actions, **options)
        file.create_dataset("rewards", data=rng.normal(size=rows).astype(np.float32))
        file.create_dataset("terminals", data=rng.random(rows) < 0.01)
        file.create_dataset("timeouts", data=timeouts)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OBDBENCH_MIRROR", raising=False)
    return tmp_path / "d4rl" / "datasets"


def test_genuine_moments_pass_and_wrong_ones_are_reported(folder, monkeypatch):
    facts = references.references()["datasets"][NAME]
    monkeypatch.setitem(facts, "size", None)
    moments = references.get_reference(NAME).moments
    write(folder / d4rl.file_name(NAME), 5000, moments)
    with pytest.warns(GenuineDataWarning, match="mean episode return") as caught:
        returns = load_dataset(f"d4rl/{NAME}").episode_returns()
    assert len(caught) == 1
    monkeypatch.setitem(facts, "return_mean", float(returns.mean()) + 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error", GenuineDataWarning)
        dataset = load_dataset(f"d4rl/{NAME}")
    assert dataset.card["mismatches"] == "none"
    assert len(dataset) == 5000 - 10
    write(folder / d4rl.file_name(NAME), 5000)
    with pytest.warns(GenuineDataWarning, match="a mean is off by"):
        dataset = load_dataset(f"d4rl/{NAME}")
    assert "standard deviation is off" in dataset.card["mismatches"]


def test_a_comparison_counts_the_rows_that_are_kept(folder):
    path = write(folder / d4rl.file_name(NAME), 3000)
    with pytest.warns(GenuineDataWarning):
        lines = list(format_comparison(load_dataset(f"d4rl/{NAME}")))
    assert lines[1].split() == ["transitions", "2,994", "401,598"]
    assert "Rows at the time limit are omitted" in lines[-1]
    path.rename(folder / d4rl.file_name("hopper-medium-expert-v2"))
    with pytest.warns(GenuineDataWarning):
        lines = list(format_comparison(load_dataset("d4rl/hopper-medium-expert-v2")))
    assert lines[1].split() == ["transitions", "2,994", "-"]  # not published


def test_wrong_size_is_reported(folder):
    write(folder / d4rl.file_name(NAME), 3000, references.get_reference(NAME).moments)
    with pytest.warns(GenuineDataWarning, match="2,994.*401,598"):
        load_dataset(f"d4rl/{NAME}")


def test_actions_beyond_their_bounds_are_clipped_and_reported(folder):
    path = write(folder / d4rl.file_name(NAME), 600)
    with h5py.File(path, "a") as file:
        file["actions"][:3] = [[1.5, 0, 0], [0, -2, 1.0001], [0, 0, 0]]
    with pytest.warns(GenuineDataWarning, match="2 numbers in actions"):
        dataset = load_dataset(f"d4rl/{NAME}")
    np.testing.assert_array_equal(dataset.actions[:2], np.float32([[1, 0, 0], [0, -1, 1.0001]]))
    assert "were clipped" in dataset.card["mismatches"]
    with h5py.File(path, "a") as file:
        file["actions"][3] = np.inf
    with pytest.raises(InvalidDataError, match="not finite"):
        load_dataset(f"d4rl/{NAME}")


def place_in_mirror(folder: Path, url: str, content: bytes) -> None:
    path = folder / url.partition("://")[2]
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_a_download_must_have_the_published_checksum(folder, tmp_path, monkeypatch):
    content = write(tmp_path / "file.hdf5", 600).read_bytes()
    monkeypatch.setenv("OBDBENCH_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    place_in_mirror(tmp_path / "mirror", d4rl.address(NAME), content)
    with pytest.raises(FetchError, match="SHA-256"):
        d4rl.fetch_file(NAME)
    facts = references.references()["files"][NAME]
    monkeypatch.setitem(facts, "sha256", hashlib.sha256(content).hexdigest())
    assert d4rl.fetch_file(NAME).read_bytes() == content
    monkeypatch.setitem(facts, "bytes", len(content) - 1)
    with pytest.raises(FetchError, match="larger than"):
        d4rl.fetch_file(NAME)


def test_the_public_mirror_serves_what_the_first_address_does_not(folder, tmp_path, monkeypatch):
    content = write(tmp_path / "file.hdf5", 600).read_bytes()
    monkeypatch.setenv("OBDBENCH_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    facts = references.references()["files"][NAME]
    monkeypatch.setitem(facts, "sha256", hashlib.sha256(content).hexdigest())
    first, second = d4rl.addresses(NAME)
    assert first == d4rl.address(NAME)
    place_in_mirror(tmp_path / "mirror", first, b"damaged")
    place_in_mirror(tmp_path / "mirror", second, content)
    assert d4rl.fetch_file(NAME).read_bytes() == content


def test_a_copy_from_the_public_mirror_is_used_without_asking_the_first_address(
    folder, tmp_path, monkeypatch
):
    content = write(tmp_path / "file.hdf5", 600).read_bytes()
    monkeypatch.setenv("OBDBENCH_CACHE", str(tmp_path / "cache"))
    facts = references.references()["files"][NAME]
    monkeypatch.setitem(facts, "sha256", hashlib.sha256(content).hexdigest())
    copy = cache_path(d4rl.addresses(NAME)[1])
    copy.parent.mkdir(parents=True)
    copy.write_bytes(content)

    def refuse(*_, **__):
        raise AssertionError("an address was asked")

    monkeypatch.setattr(d4rl, "fetch", refuse)
    assert d4rl.fetch_file(NAME) == copy


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("hopper-medium-replay-v2", "hopper_medium_replay-v2.hdf5"),
        ("walker2d-medium-v2", "walker2d_medium-v2.hdf5"),
        ("halfcheetah-full-replay-v2", "halfcheetah_full_replay-v2.hdf5"),
    ],
)
def test_file_names(name, file):
    assert d4rl.file_name(name) == file


def test_every_file_has_addresses_size_and_checksum():
    files = references.references()["files"]
    assert set(files) == set(d4rl.NAMES)
    for name, facts in files.items():
        assert len(bytes.fromhex(facts["sha256"])) == 32
        assert 50e6 < facts["bytes"] < 500e6
        first, second = d4rl.addresses(name)
        assert first.startswith("http://rail.eecs.berkeley.edu/")
        assert second.startswith("https://")


def test_a_file_without_published_moments_has_no_mismatch(folder):
    write(folder / d4rl.file_name("hopper-random-v2"), 600)
    dataset = load_dataset("d4rl/hopper-random-v2")
    assert len(dataset) > 500
    assert dataset.card["mismatches"] == "none"


@pytest.mark.parametrize("name", [NAME, "hopper-random-v2"])
def test_what_cannot_be_fetched_is_one_error(folder, monkeypatch, name):
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    with pytest.raises(FetchError, match="OBDBENCH_MIRROR"):
        load_dataset(f"d4rl/{name}")


def test_other_levels_are_known_and_wrong_names_answered(folder):
    assert len(d4rl.NAMES) == 18
    with pytest.raises(UnknownNameError, match="hopper-medium-replay-v2"):
        load_dataset("d4rl/hopper-medium-reply-v2")


def test_every_registered_name_has_moments():
    for name, facts in references.references()["datasets"].items():
        task = TASKS[name.split("-")[0]]
        moments = references.get_reference(name).moments
        assert moments.mean.shape == moments.std.shape == (task.observation_size,)
        assert (moments.std > 0).all()
        assert facts["size"] is None or facts["size"] > 200_000
        assert TASKS[task.name].random_return < facts["return_mean"] < task.expert_return


MEASURE = """
import resource, sys, time, warnings
warnings.simplefilter("ignore")
from obdbench.datasets import d4rl
import h5py
import numpy
started = time.process_time()
n = len(d4rl.load(sys.argv[1]))
seconds = time.process_time() - started
print(n, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.benchmark
def test_a_million_transitions_in_three_seconds(folder):
    write(folder / d4rl.file_name("hopper-medium-v2"), 1_000_000)
    command = [sys.executable, "-c", MEASURE, "hopper-medium-v2"]
    n, seconds, gigabytes = map(
        float, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    )
    assert n > 990_000
    assert seconds <= 3.0
    assert gigabytes <= 1.5


@pytest.mark.network
def test_scores_and_addresses_agree_with_the_d4rl_wheel(tmp_path):
    """Read ``infos.py`` out of the wheel's text, without importing it."""
    import ast
    import zipfile

    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "-d", str(tmp_path), "d4rl==1.1"], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tree = ast.parse(archive.read("d4rl/infos.py"))
    scores = {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.startswith("REF_")
    }
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    (address,) = [text for text in texts if isinstance(text, str) and "gym_mujoco_v2/" in text]
    for name in d4rl.NAMES:
        task, level = name.removesuffix("-v2").split("-", 1)
        assert scores["REF_MIN_SCORE"][f"{task}-random-v0"] == TASKS[task].random_return
        assert scores["REF_MAX_SCORE"][f"{task}-random-v0"] == TASKS[task].expert_return
        assert level in texts
        assert address % f"{task}_{level.replace('-', '_')}-v2" == d4rl.address(name)
