"""The promises of SECURITY.md: no unrequested network access, and no code from data files."""

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

from obdbench.datasets import embedded
from obdbench.datasets import file as file_datasets
from obdbench.distillation.synset import Synset
from obdbench.errors import ObdError
from obdbench.experiments import presets
from obdbench.experiments.suite import load_suite
from obdbench.reporting.show import describe_file
from obdbench.results.record import Result, read_json
from obdbench.teachers import checkpoint, teacher

BLOCKED_NETWORK = """
import os, socket
_LOG = os.environ["NETWORK_LOG"]
_METHODS = {
    name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto", "bind")
}

def _block(name):
    def call(*arguments, **options):
        local = name != "getaddrinfo" and arguments[0].family not in (
            socket.AF_INET, socket.AF_INET6
        )
        if local:
            return _METHODS[name](*arguments, **options)
        with open(_LOG, "a") as file:
            file.write(f"{name} {arguments if name == 'getaddrinfo' else arguments[1:]}\\n")
        raise OSError(f"the test blocks {name}")
    return call

for _name in _METHODS:
    setattr(socket.socket, _name, _block(_name))
socket.getaddrinfo = _block("getaddrinfo")
"""


@pytest.fixture
def run_blocked(tmp_path: Path) -> Callable[..., tuple[int, str, list[str]]]:
    """Run obdbench without network, workers included; returns code, output and attempts."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(BLOCKED_NETWORK)
    log = tmp_path / "attempts.txt"
    unset = ("OBDBENCH_OFFLINE", "OBDBENCH_MIRROR", "OBDBENCH_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {
        "PYTHONPATH": f"{tmp_path / 'blocked'}{os.pathsep}{ROOT}",
        "NETWORK_LOG": str(log),
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home" / "cache"),
    }

    def run(*arguments: str) -> tuple[int, str, list[str]]:
        done = subprocess.run(
            [sys.executable, "-m", "obdbench", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        attempts = log.read_text().splitlines() if log.exists() else []
        return done.returncode, done.stdout + done.stderr, attempts

    return run


def test_a_blocked_download_is_noticed(run_blocked: Callable[..., Any], tmp_path: Path) -> None:
    """Shows that the block and its log work."""
    with (tmp_path / "blocked" / "sitecustomize.py").open("a") as file:
        file.write("import time\ntime.sleep = lambda seconds: None  # no delay between attempts\n")
    code, output, attempts = run_blocked("data", "fetch", "d4rl/hopper-medium-v2")
    assert code == 2, output
    assert len(output.splitlines()) == 1
    assert attempts
    assert attempts[0].startswith("getaddrinfo")


@pytest.mark.reliability(
    "input",
    "unrequested network access",
    injection="list, run smoke, show and leaderboard with every socket blocked and logged",
    outcome="all succeed without touching a socket",
)
def test_no_command_accesses_the_network_unrequested(
    run_blocked: Callable[..., Any], tmp_path: Path
) -> None:
    calls = [["list", "datasets"], ["data", "list"], ["list", "suites"]]
    calls += [["run", "smoke", "--workers", "1", "--seeds", "0"]]
    calls += [["leaderboard", "--publish", "results/smoke", "--to", "pages"]]
    calls += [["leaderboard", "--check", "--to", "pages"]]
    for arguments in calls:
        code, output, attempts = run_blocked(*arguments)
        assert code == 0, output
        assert not attempts, arguments
    result = min((tmp_path / "results" / "smoke").glob("*.json"))
    assert run_blocked("show", str(result))[::2] == (0, [])


class Exploit:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


def exploit_in_npz(exploit: Exploit, names: list[str]) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.array([exploit] * 4, dtype=object) for name in names}
    np.savez(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()


def exploit_in_hdf5(exploit: Exploit) -> bytes:
    """A pickle as opaque bytes in place of numbers, and as an attribute."""
    buffer, pickled = io.BytesIO(), np.void(pickle.dumps(exploit))
    with h5py.File(buffer, "w") as file:
        for name in file_datasets.REQUIRED:
            file.create_dataset(name, data=pickled)
            file[name].attrs["dtype"] = pickled
    return buffer.getvalue()


def exploit_in_checkpoint(exploit: Exploit) -> bytes:
    buffer = io.BytesIO()
    torch.save({"actor": exploit, "critic1": exploit, "critic2": exploit}, buffer)
    return buffer.getvalue()


def exploit_in_safetensors(pickled: bytes) -> bytes:
    """A valid header whose single tensor is a pickle."""
    header = {"states": {"dtype": "U8", "shape": [len(pickled)], "data_offsets": [0, len(pickled)]}}
    header["__metadata__"] = {"format": "obdbench-synset-1 hopper"}  # type: ignore[dict-item]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + pickled


DATA = [
    *file_datasets.REQUIRED,
    *file_datasets.OPTIONAL,
    "bounds",
    "ends",
    "finals",
    "high_bytes",
]
READERS: dict[str, Callable[[Path], Any]] = {
    "hopper.npz": lambda path: file_datasets.load(f"file:{path}"),
    "hopper.hdf5": lambda path: file_datasets.load(f"file:{path}"),
    "hopper-medium-v1.npz": lambda path: embedded.load("embedded/hopper-medium-v1", path.parent),
    "published.pt": checkpoint.read_checkpoint,
    "teacher.safetensors": teacher.Teacher.load,
    "synset.safetensors": Synset.load,
    "shown.safetensors": describe_file,
    "shown.json": describe_file,
    "result.json": lambda path: read_json(Result, path),
    "suite.toml": lambda path: load_suite(str(path)),
    "preset.toml": presets.read_toml,
}


def malicious_files(name: str, exploit: Exploit) -> list[bytes]:
    """A pickle in place of a file: on its own, and inside the container format of that file."""
    pickled = pickle.dumps(exploit)
    contents = [pickled, pickle.dumps(exploit, protocol=0)]
    if name.endswith((".npz", ".npy")):
        contents.append(exploit_in_npz(exploit, DATA))
        with zipfile.ZipFile(io.BytesIO(exploit_in_npz(exploit, DATA))) as archive:
            contents.append(archive.read("bounds.npy"))
    if name.endswith(".hdf5"):
        contents.append(exploit_in_hdf5(exploit))
    if name.endswith(".pt"):
        contents.append(exploit_in_checkpoint(exploit))
    if name.endswith(".safetensors"):
        contents.append(exploit_in_safetensors(pickled))
    return contents


@pytest.mark.reliability(
    "input",
    "pickles that run code",
    injection="plain and inside NPZ, NPY, HDF5, .pt and safetensors, in place of "
    "every file that is read",
    outcome="rejected or read as plain bytes; no code ran",
)
@pytest.mark.parametrize("name", READERS)
def test_no_file_runs_code(name: str, tmp_path: Path, attempts: Any) -> None:
    evidence = tmp_path / "code-ran"
    for content in malicious_files(name, Exploit(evidence)):
        path = tmp_path / name
        path.write_bytes(content)
        if name == "hopper-medium-v1.npz":
            card = {"sha256": hashlib.sha256(content).hexdigest()}
            path.with_suffix(".json").write_text(json.dumps(card))
        with attempts:
            try:
                loaded = READERS[name](path)
            except ObdError:
                loaded = None
            assert loaded is None or isinstance(loaded, str)
            assert not evidence.exists()


def test_the_exploit_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Exploit(tmp_path / "code-ran")))
    assert (tmp_path / "code-ran").exists()


UNSAFE_CALLS = {
    *("eval", "exec", "compile", "__import__", "system", "popen"),
    *("pickle.load", "pickle.loads", "marshal.loads", "np.load", "torch.load", "joblib.load"),
}
ALLOWED = {  # with the reason why the call is safe
    ("obdbench.plugins", "exec"): "the user names plugins, which are code",
    ("obdbench.plugins", "compile"): "the user names plugins, which are code",
    ("obdbench.datasets.arrays", "np.load"): "allow_pickle=False, checked below",
    ("obdbench.datasets.packing", "np.load"): "allow_pickle=False, checked below",
    ("obdbench.collection.recipe", "np.load"): "allow_pickle=False, checked below",
    ("obdbench.collection.sac", "np.load"): "allow_pickle=False, checked below",
    ("obdbench.teachers.checkpoint", "torch.load"): "weights_only=True, checked below",
    ("obdbench.training_state", "torch.load"): "weights_only=True, checked below",
}


def test_the_package_contains_no_call_that_runs_data() -> None:
    calls = set()
    for path in (ROOT / "obdbench").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            function = ast.unparse(node.func)
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            assert options.get("shell") != "True", f"{module} line {node.lineno}"
            if function == "np.load":
                assert options["allow_pickle"] == "False"
            if function == "torch.load":
                assert options["weights_only"] == "True"
            if function in UNSAFE_CALLS or function.partition(".")[2] in ("system", "popen"):
                calls.add((module, function))
    assert calls == set(ALLOWED)
