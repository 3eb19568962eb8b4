"""The quickstart notebook: a valid file without outputs, whose cells run in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.paths import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
PRESET = ('PRESET = "fast"', 'PRESET = "tiny"')


@pytest.fixture
def notebook() -> dict[str, Any]:
    """The notebook with a preset that takes seconds."""
    text = NOTEBOOK.read_text()
    old, new = (json.dumps(line)[1:-1] for line in PRESET)
    assert text.count(old) == 1
    content: dict[str, Any] = json.loads(text.replace(old, new))
    return content


def code_cells(notebook: dict[str, Any]) -> list[str]:
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]


def test_notebook_has_no_outputs() -> None:
    content = json.loads(NOTEBOOK.read_text())
    assert content["nbformat"] == 4
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_code_cells_run_in_order(
    notebook: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in code_cells(notebook):
        exec(compile(cell, NOTEBOOK.name, "exec"), names)
    assert np.isfinite(names["score"])
    assert (tmp_path / "hopper.safetensors").is_file()
    assert len(np.load(tmp_path / "hopper.npz")["actions"]) == len(names["synset"])


def test_notebook_runs_in_a_kernel(
    notebook: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    content = nbformat.reads(json.dumps(notebook), as_version=4)
    nbformat.validate(content)
    client = nbclient.NotebookClient(
        content, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    assert (tmp_path / "hopper.npz").is_file()
