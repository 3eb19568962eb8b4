"""No network without being asked, and no code from data: what SECURITY.md promises."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from support.paths import ROOT

from obdbench.collection import reconstruct
from obdbench.datasets import embedded
from obdbench.datasets import file as own_files
from obdbench.distillation.synset import Synset
from obdbench.errors import ObdError
from obdbench.experiments import presets
from obdbench.experiments.suite import load_suite
from obdbench.objectives import density
from obdbench.reporting.show import show
from obdbench.results.record import Result, read_json
from obdbench.teachers import checkpoint, teacher

GUARD = """
import os, socket
_PLACE = os.environ["GUARD"]

def _refused(what):
    def call(*arguments, **options):
        if what != "getaddrinfo" and arguments[0].family not in (socket.AF_INET, socket.AF_INET6):
            return _KEPT[what](*arguments, **options)
        with open(_PLACE, "a") as file:
            file.write(f"{what} {arguments[1:] if what != 'getaddrinfo' else arguments}\\n")
        raise OSError(f"the guard refuses {what}")
    return call

_KEPT = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto", "bind")}
for _name in _KEPT:
    setattr(socket.socket, _name, _refused(_name))
socket.getaddrinfo = _refused("getaddrinfo")
"""


@pytest.fixture
def guarded(tmp_path: Path) -> Callable[..., tuple[int, str, list[str]]]:
    """The program with every network socket refused, in its worker processes as well."""
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(GUARD)
    notes = tmp_path / "tried.txt"
    hidden = ("OBDBENCH_OFFLINE", "OBDBENCH_MIRROR", "OBDBENCH_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {
        "PYTHONPATH": f"{tmp_path / 'guard'}{os.pathsep}{ROOT}",
        "GUARD": str(notes),
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home" / "cache"),
    }

    def call(*words: str) -> tuple[int, str, list[str]]:
        done = subprocess.run(
            [sys.executable, "-m", "obdbench", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        tried = notes.read_text().splitlines() if notes.exists() else []
        return done.returncode, done.stdout + done.stderr, tried

    return call


def test_the_guard_sees_a_download(guarded: Callable[..., Any], tmp_path: Path) -> None:
    """The control: what was asked for does go out, and the guard notes it."""
    with (tmp_path / "guard" / "sitecustomize.py").open("a") as file:
        file.write("import time\ntime.sleep = lambda seconds: None  # between attempts\n")
    code, said, tried = guarded("data", "fetch", "d4rl/hopper-medium-v2")
    assert code == 2
    assert "could not be fetched" in said
    assert tried
    assert tried[0].startswith("getaddrinfo")


@pytest.mark.reliability(
    "input",
    "network that nobody asked for",
    how="list, run smoke, show, leaderboard with every socket refused and noted",
    outcome="all done, no socket touched",
)
def test_nothing_goes_out_unasked(guarded: Callable[..., Any], tmp_path: Path) -> None:
    calls = [["list", "datasets"], ["data", "list"], ["list", "suites"]]
    calls += [["run", "smoke", "--workers", "1", "--seeds", "0"]]
    calls += [["leaderboard", "--publish", "results/smoke", "--to", "pages"]]
    calls += [["leaderboard", "--check", "--to", "pages"]]
    for words in calls:
        code, said, tried = guarded(*words)
        assert code == 0, said
        assert not tried, words
    result = min((tmp_path / "results" / "smoke").glob("*.json"))
    assert guarded("show", str(result))[::2] == (0, [])


class Bomb:
    """Unpickles into a file that should not be there."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


def bombed_npz(bomb: Bomb, names: list[str]) -> bytes:
    buffer = io.BytesIO()
    held: dict[str, Any] = {name: np.array([bomb] * 4, dtype=object) for name in names}
    np.savez(buffer, allow_pickle=True, **held)
    return buffer.getvalue()


def bombed_hdf5(bomb: Bomb) -> bytes:
    """A pickle as opaque bytes where numbers should be, and as an attribute."""
    buffer, pickled = io.BytesIO(), np.void(pickle.dumps(bomb))
    with h5py.File(buffer, "w") as file:
        for name in own_files.REQUIRED:
            file.create_dataset(name, data=pickled)
            file[name].attrs["dtype"] = pickled
    return buffer.getvalue()


def bombed_checkpoint(bomb: Bomb) -> bytes:
    buffer = io.BytesIO()
    torch.save({"actor": bomb, "critic1": bomb, "critic2": bomb}, buffer)
    return buffer.getvalue()


def safetensors_around(pickled: bytes) -> bytes:
    """A sound header whose one tensor is a pickle."""
    header = {"states": {"dtype": "U8", "shape": [len(pickled)], "data_offsets": [0, len(pickled)]}}
    header["__metadata__"] = {"format": "obdbench-synset-1 hopper"}  # type: ignore[dict-item]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + pickled


DATA = [*own_files.REQUIRED, *own_files.OPTIONAL, "card", "bounds", "ends", "finals", "high_bytes"]
READERS: dict[str, Callable[[Path], Any]] = {
    "hopper.npz": lambda path: own_files.load(f"file:{path}"),
    "hopper.hdf5": lambda path: own_files.load(f"file:{path}"),
    "hopper-medium-v0.npz": lambda path: embedded.load("embedded/hopper-medium-v0", path.parent),
    "stand-in.npz": lambda path: reconstruct._read(path, "hopper-medium-v2"),
    "density.npy": lambda path: density.read_cached_density(path, 4),
    "published.pt": checkpoint.read_checkpoint,
    "teacher.safetensors": teacher.Teacher.load,
    "synset.safetensors": Synset.load,
    "shown.safetensors": show,
    "shown.json": show,
    "result.json": lambda path: read_json(Result, path),
    "suite.toml": lambda path: load_suite(str(path)),
    "preset.toml": presets.read_toml,
}


def disguises(name: str, bomb: Bomb) -> list[bytes]:
    """A pickle under the name of a file, bare and in that file's own container."""
    pickled = pickle.dumps(bomb)
    found = [pickled, pickle.dumps(bomb, protocol=0)]
    if name.endswith((".npz", ".npy")):
        found.append(bombed_npz(bomb, DATA))
        with zipfile.ZipFile(io.BytesIO(bombed_npz(bomb, DATA))) as archive:
            found.append(archive.read("card.npy"))
    if name.endswith(".hdf5"):
        found.append(bombed_hdf5(bomb))
    if name.endswith(".pt"):
        found.append(bombed_checkpoint(bomb))
    if name.endswith(".safetensors"):
        found.append(safetensors_around(pickled))
    return found


@pytest.mark.reliability(
    "input",
    "pickles that would run code",
    how="bare and inside NPZ, NPY, HDF5, .pt and safetensors, under the name of every file read",
    outcome="refused or taken for plain bytes; nothing ran",
)
@pytest.mark.parametrize("name", READERS)
def test_no_file_runs_code(name: str, tmp_path: Path, tally: Any) -> None:
    sign = tmp_path / "it-ran"
    for content in disguises(name, Bomb(sign)):
        path = tmp_path / name
        path.write_bytes(content)
        if name == "hopper-medium-v0.npz":
            card = {"sha256": hashlib.sha256(content).hexdigest()}
            path.with_suffix(".json").write_text(json.dumps(card))
        with tally:
            try:
                found = READERS[name](path)
            except ObdError:
                found = None
            assert found is None or isinstance(found, str)
            assert not sign.exists()


def test_the_bomb_is_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "it-ran")))
    assert (tmp_path / "it-ran").exists()


CALLS = {
    *("eval", "exec", "compile", "__import__", "system", "popen"),
    *("pickle.load", "pickle.loads", "marshal.loads", "np.load", "torch.load", "joblib.load"),
}
ALLOWED = {  # where each is safe, and why
    ("obdbench.plugins", "exec"): "plugins are code, and are named by the user",
    ("obdbench.plugins", "compile"): "the same",
    ("obdbench.datasets.packing", "np.load"): "allow_pickle=False, below",
    ("obdbench.collection.recipe", "np.load"): "the same",
    ("obdbench.teachers.checkpoint", "torch.load"): "weights_only=True, below",
}


def test_nothing_in_the_package_could_run_data() -> None:
    found = set()
    for path in (ROOT / "obdbench").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            assert options.get("shell") != "True", f"{module} line {node.lineno}"
            if called == "np.load":
                assert options["allow_pickle"] == "False"
            if called == "torch.load":
                assert options["weights_only"] == "True"
            if called in CALLS or called.partition(".")[2] in ("system", "popen"):
                found.add((module, called))
    assert found == set(ALLOWED)
