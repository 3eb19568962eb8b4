"""Pushing to and pulling from a local server with the interface of the Hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.hub_server import COMMIT, HubServer, run_hub_server
from support.paths import FIXTURES

from obdbench.datasets.dataset import Dataset
from obdbench.distillation.synset import Synset
from obdbench.errors import FetchError, InvalidDataError, InvalidSettingError, ObdError
from obdbench.reporting.grids.suite_results import read_suite_results
from obdbench.sharing.hub import INDEX, pull_from_hub, push_to_hub

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
REPOSITORY = "someone/hopper-pairs"
RESULTS = FIXTURES / "results" / "quick"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    monkeypatch.delenv("OBDBENCH_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_a_test")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    with run_hub_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


@pytest.fixture
def synset_path(toy_dataset: Dataset, tmp_path: Path) -> Path:
    synset = Synset(
        toy_dataset.states[:6],
        toy_dataset.actions[:6],
        toy_dataset.standardizer,
        toy_dataset.task,
        {"objective": "pbc", "note": "a|b <script>"},
    )
    return synset.save(tmp_path / "local" / "pairs.safetensors")


def replace_file(hub: HubServer, name: str, content: bytes, *, in_index: bool) -> None:
    """Change a file on the server, and optionally its checksum."""
    files = hub.repositories[REPOSITORY]
    files[name] = content
    if in_index:
        index = json.loads(files[INDEX])
        digest = hashlib.sha256(content).hexdigest()
        index["files"][name] = {"bytes": len(content), "sha256": digest}
        files[INDEX] = json.dumps(index).encode()


def test_pulled_synset_equals_the_pushed_one(
    hub: HubServer, synset_path: Path, tmp_path: Path
) -> None:
    address = push_to_hub(synset_path, REPOSITORY, private=True)
    assert address.startswith(hub.address)
    assert hub.private == {REPOSITORY}
    files, commit = pull_from_hub(REPOSITORY, tmp_path / "pulled")
    assert commit == COMMIT
    assert {path.name for path in files} == {"pairs.safetensors", "pairs.json"}
    pulled, pushed = Synset.load(tmp_path / "pulled/pairs.safetensors"), Synset.load(synset_path)
    assert np.array_equal(pulled.states, pushed.states)
    assert np.array_equal(pulled.actions, pushed.actions)
    assert pulled.card == pushed.card
    assert pull_from_hub(REPOSITORY, tmp_path / "pulled")[0] == files


def test_readme_describes_the_synset(hub: HubServer, synset_path: Path) -> None:
    push_to_hub(synset_path, REPOSITORY)
    readme = hub.repositories[REPOSITORY]["README.md"].decode()
    assert readme.startswith("---\ntags:\n- obdbench\n")
    assert "Hopper-v4" in readme
    assert "| objective | pbc |" in readme
    assert r"a\|b \<script\>" in readme
    assert f"obdbench hub pull {REPOSITORY}" in readme


def test_pulled_results_equal_the_pushed_ones(hub: HubServer, tmp_path: Path) -> None:
    push_to_hub(RESULTS, REPOSITORY)
    files, _ = pull_from_hub(REPOSITORY, tmp_path)
    assert {path.name: path.read_bytes() for path in files} == {
        path.name: path.read_bytes() for path in RESULTS.glob("*.json")
    }
    pulled, pushed = read_suite_results(tmp_path / "quick"), read_suite_results(RESULTS)
    assert pulled == pushed
    readme = hub.repositories[REPOSITORY]["README.md"].decode()
    assert {entry.spec.objective for entry in pushed.entries} <= set(
        readme.replace("|", " ").split()
    )


def test_damaged_file_is_an_error_and_nothing_is_written(
    hub: HubServer, synset_path: Path, tmp_path: Path
) -> None:
    push_to_hub(synset_path, REPOSITORY)
    content = bytearray(hub.repositories[REPOSITORY]["pairs.safetensors"])
    content[-1] ^= 1
    replace_file(hub, "pairs.safetensors", bytes(content), in_index=False)
    with pytest.raises(FetchError, match="checksum"):
        pull_from_hub(REPOSITORY, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


@pytest.mark.parametrize("content", [b"garbage", b"\x80\x04K\x01.", b""])
def test_file_with_a_valid_checksum_passes_the_restricted_loader(
    hub: HubServer, synset_path: Path, tmp_path: Path, content: bytes
) -> None:
    push_to_hub(synset_path, REPOSITORY)
    replace_file(hub, "pairs.safetensors", content, in_index=True)
    with pytest.raises(InvalidDataError):
        pull_from_hub(REPOSITORY, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


def test_invalid_result_is_an_error(hub: HubServer, tmp_path: Path) -> None:
    push_to_hub(RESULTS, REPOSITORY)
    name = next(n for n in hub.repositories[REPOSITORY] if n.startswith("quick/"))
    replace_file(hub, name, b"{}", in_index=True)
    with pytest.raises(InvalidDataError):
        pull_from_hub(REPOSITORY, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()


@pytest.mark.parametrize(
    "name", ["../evil.json", "/etc/evil.json", "a/b/c.json", "run.py", ".hidden.json", INDEX]
)
def test_unsafe_paths_are_errors(
    hub: HubServer, synset_path: Path, tmp_path: Path, name: str
) -> None:
    push_to_hub(synset_path, REPOSITORY)
    replace_file(hub, name, hub.repositories[REPOSITORY][INDEX], in_index=True)
    with pytest.raises(InvalidDataError):
        pull_from_hub(REPOSITORY, tmp_path / "pulled")
    assert not (tmp_path / "pulled").exists()
    assert not (tmp_path / "evil.json").exists()


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"kind": "synset", "files": {}}'])
def test_invalid_indexes_are_errors(
    hub: HubServer, synset_path: Path, tmp_path: Path, content: bytes
) -> None:
    push_to_hub(synset_path, REPOSITORY)
    hub.repositories[REPOSITORY][INDEX] = content
    with pytest.raises(InvalidDataError):
        pull_from_hub(REPOSITORY, tmp_path / "pulled")


def test_too_large_files_are_not_downloaded(
    hub: HubServer, synset_path: Path, tmp_path: Path
) -> None:
    push_to_hub(synset_path, REPOSITORY)
    hub.repositories[REPOSITORY]["pairs.safetensors"] += bytes(1000)
    hub.requests.clear()
    with pytest.raises(InvalidDataError, match="too large"):
        pull_from_hub(REPOSITORY, tmp_path / "pulled")
    assert not any(request.endswith("pairs.safetensors") for request in hub.requests)


def test_existing_files_are_not_replaced(hub: HubServer, synset_path: Path, tmp_path: Path) -> None:
    push_to_hub(synset_path, REPOSITORY)
    existing = tmp_path / "pulled" / "pairs.json"
    existing.parent.mkdir()
    existing.write_text("{}")
    with pytest.raises(InvalidSettingError):
        pull_from_hub(REPOSITORY, tmp_path / "pulled")
    assert existing.read_text() == "{}"
    assert list(existing.parent.iterdir()) == [existing]


def test_missing_repositories_and_tokens_are_errors(
    hub: HubServer, synset_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FetchError):
        pull_from_hub("someone/nothing", tmp_path / "pulled")
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    with pytest.raises(FetchError):
        push_to_hub(synset_path, REPOSITORY)


def test_offline_mode_sends_nothing(
    hub: HubServer, synset_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBDBENCH_OFFLINE", "1")
    with pytest.raises(FetchError):
        push_to_hub(synset_path, REPOSITORY)
    with pytest.raises(FetchError):
        pull_from_hub(REPOSITORY, tmp_path / "pulled")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["pairs", "../x/y", "a/b/c", "someone/", "-a/b"])
def test_other_names_than_repositories_are_errors(name: str, synset_path: Path) -> None:
    with pytest.raises(InvalidSettingError):
        push_to_hub(synset_path, name)


def test_other_sources_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ObdError):
        push_to_hub(tmp_path, REPOSITORY)


def test_commands_push_and_pull(call, hub: HubServer, synset_path: Path, tmp_path: Path) -> None:
    code, printed, _ = call("hub", "push", str(synset_path), REPOSITORY)
    assert code == 0
    assert COMMIT in printed
    code, printed, _ = call("hub", "pull", REPOSITORY)
    assert code == 0
    assert COMMIT in printed
    assert (tmp_path / "hopper-pairs" / "pairs.safetensors").is_file()
    code, _, error = call("hub", "pull", "someone/nothing")
    assert code == 2
    assert len(error.splitlines()) == 1
