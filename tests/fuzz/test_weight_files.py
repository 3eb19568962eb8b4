"""Every file that holds tensors: teachers, published checkpoints, synsets, snapshots, densities."""

from __future__ import annotations

import io
import json
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save
from support.damage import JUNK, WORDS, altered, altered_arrays, as_json, damaged
from support.fuzzing import ReadCounter, examples, reading_test
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.datasets.dataset import Standardizer
from obdbench.distillation import loop, snapshot
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.synset import Synset
from obdbench.objectives.objective import make_objective
from obdbench.reporting.show import describe_file
from obdbench.teachers import checkpoint, teacher

DATASET = make_toy_dataset(40)
MOMENTS = Standardizer(np.zeros(11, np.float32), np.ones(11, np.float32))
SETTINGS = DistillSettings(pairs=4, steps=2, inner_steps=2, batch=4, architecture="mlp2")


def parts(valid_content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and what follows it."""
    size = int.from_bytes(valid_content[:8], "little")
    return json.loads(valid_content[8 : 8 + size]), valid_content[8 + size :]


def joined(header: Any, rest: bytes) -> bytes:
    text = as_json(header)
    return len(text).to_bytes(8, "little") + text + rest


def tensors_of(valid_content: bytes) -> dict[str, Any]:
    from safetensors.numpy import load

    return load(valid_content)


DTYPES = st.sampled_from(["BF16", "F16", "F64", "F8_E4M3", "F4", "C64", "BOOL", "I8", "U64"])


@st.composite
def metadata(draw: st.DrawFn, valid: dict[str, str]) -> dict[str, str]:
    content = dict(valid)
    for name in draw(st.lists(st.sampled_from(sorted(valid)), max_size=2)):
        content.pop(name, None)
        if draw(st.booleans()):
            content[name] = draw(
                st.one_of(st.sampled_from(WORDS), st.text(max_size=8), JUNK.map(str))
            )
    return content


@st.composite
def hostile(draw: st.DrawFn, valid_content: bytes) -> bytes:
    """A safetensors file with damaged bytes, an altered header, or junk in a valid container."""
    header, rest = parts(valid_content)
    damage = draw(st.sampled_from(["bytes", "header", "tensors"]))
    if damage == "bytes":
        return draw(damaged(valid_content))
    if damage == "header":
        return joined(draw(altered(header, st.one_of(JUNK, DTYPES))), rest)
    tensors = draw(altered_arrays(tensors_of(valid_content)))
    known = {k: np.ascontiguousarray(v) for k, v in tensors.items() if v.dtype.kind in "fiub"}
    return save(known, metadata=draw(metadata(header["__metadata__"])))


def use_teacher(loaded_teacher: teacher.Teacher) -> None:
    """A teacher that was taken gives actions, values and its checksum."""
    size = loaded_teacher.observation_size
    columns = loaded_teacher.columns(np.zeros((3, size), np.float32))
    assert columns["teacher_actions"].shape == (3, loaded_teacher.action_size)
    assert len(loaded_teacher.checksum) == 64


@reading_test("teachers (safetensors)")
def test_teacher(folder: Path, read_counter: ReadCounter) -> None:
    path = folder / "teacher.safetensors"
    make_toy_teacher(DATASET).save(path)
    valid_content = path.read_bytes()

    @examples(75)
    @given(hostile(valid_content))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        read_counter.read(lambda: teacher.Teacher.load(path), use_teacher)

    check()
    assert read_counter.rejected
    assert read_counter.accepted


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def good_checkpoint() -> dict[str, Any]:
    """A checkpoint in the published format, small."""

    def network(prefix: str, sizes: list[int]) -> dict[str, Any]:
        return {
            f"{prefix}.{2 * i}.{kind}": torch.zeros((o, n) if kind == "weight" else o)
            for i, (n, o) in enumerate(pairwise(sizes))
            for kind in ("weight", "bias")
        }

    scale = {f"log_std_{name}.constant": torch.tensor(1.0) for name in ("multiplier", "offset")}
    critics = {f"critic{i}": network("network", [14, 8, 1]) for i in (1, 2)}
    return {"actor": network("base_network", [11, 8, 6]) | scale, **critics, "total_it": 7}


TENSORS = st.sampled_from(
    [
        *(torch.zeros(shape) for shape in [(), (0,), (3,), (8, 5), (6, 8), (2, 2, 2)]),
        torch.full((8, 11), float("nan")),
        torch.ones(6, dtype=torch.int64),
        torch.ones((6, 8), dtype=torch.complex64),
        torch.ones((6, 8), dtype=torch.bfloat16),
        torch.eye(3).to_sparse(),
        torch.empty((6, 8), device="meta"),
    ]
)


def repickled(archive: bytes, pickled: bytes) -> bytes:
    """The archive with another description of its content, sums and all."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(
                entry.filename, pickled if entry.filename.endswith("data.pkl") else content
            )
    return buffer.getvalue()


@reading_test("published checkpoints (.pt)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_published_checkpoint(folder: Path, read_counter: ReadCounter) -> None:
    valid = good_checkpoint()
    valid_content = saved(valid)
    with zipfile.ZipFile(io.BytesIO(valid_content)) as archive:
        pickled = next(archive.read(n) for n in archive.namelist() if n.endswith("data.pkl"))
    path = folder / "teacher.pt"

    @examples(100)
    @given(st.data(), st.sampled_from(["bytes", "pickle", "content", "content"]))
    def check(data: st.DataObject, damaged_part: str) -> None:
        if damaged_part == "bytes":
            content = data.draw(damaged(valid_content))
        elif damaged_part == "pickle":
            content = repickled(valid_content, data.draw(damaged(pickled)))
        else:
            content = saved(data.draw(altered(valid, st.one_of(TENSORS, JUNK))))
        path.write_bytes(content)
        before = sorted(folder.iterdir())
        read_counter.read(
            lambda: checkpoint.teacher_from_checkpoint(
                checkpoint.read_checkpoint(path), "hopper", MOMENTS, {}
            ),
            use_teacher,
        )
        assert sorted(folder.iterdir()) == before

    check()
    assert read_counter.rejected
    assert read_counter.accepted


def a_synset() -> Synset:
    return Synset(
        states=DATASET.states[:4],
        actions=DATASET.actions[:4],
        standardizer=DATASET.standardizer,
        task=DATASET.task,
        card={"dataset": DATASET.id, "step": 3, "seed": 0, "settings": {"pairs": 4}},
    )


@reading_test("synsets and their cards, loaded and shown")
def test_synset_and_its_card(folder: Path, read_counter: ReadCounter) -> None:
    path = a_synset().save(folder / "synset.safetensors")
    valid_content, card_path = path.read_bytes(), path.with_suffix(".json")
    card = card_path.read_bytes()

    @examples(100)
    @given(st.data(), st.sampled_from(["file", "file", "card", "card's bytes"]))
    def check(data: st.DataObject, damaged_part: str) -> None:
        path.write_bytes(
            data.draw(hostile(valid_content)) if damaged_part == "file" else valid_content
        )
        card_content = card
        if damaged_part == "card":
            card_content = as_json(data.draw(altered(json.loads(card))))
        elif damaged_part == "card's bytes":
            card_content = data.draw(damaged(card))
        card_path.write_bytes(card_content)
        read_counter.read(lambda: Synset.load(path), lambda synset: synset.observations)
        shown = read_counter.read(lambda: describe_file(path))
        assert shown is None or shown.startswith("synset")

    check()
    assert read_counter.rejected
    assert read_counter.accepted


def continue_run(run: Any) -> None:
    """A run that took a snapshot can yield its points and take a step."""
    for step in list(run.points):
        loop.evaluation_point(run, step, DATASET, _Objective(), SETTINGS, [0, 1])
    synsets = [run.states, run.actions]
    run.optimizer.update(0, synsets, [value.clone() for value in synsets])


@reading_test("snapshots")
def test_snapshot(folder: Path, read_counter: ReadCounter) -> None:
    """A run continues from what it can use, and otherwise says what to do."""
    path = folder / "snapshot"

    def fresh() -> Any:
        return loop.initial_state(
            DATASET, None, make_objective("dbc"), SETTINGS, [0, 1], "cpu", torch.float32
        )

    begun = fresh()
    synsets = [begun.states, begun.actions]
    begun.optimizer.update(0, synsets, [value.clone() for value in synsets])
    begun.points[0] = (begun.states.clone(), begun.actions.clone(), 0.5)
    begun.losses = [[(0, 1.0)], [(0, 2.0)]]
    snapshot.save_snapshot(begun, path)
    valid_content = path.read_bytes()
    saved = torch.load(path, weights_only=True)
    tensors = st.sampled_from(
        [torch.zeros(2, 4, 11), torch.zeros(2, 4, 3), torch.ones(3), torch.full((), torch.nan)]
    )

    def reached() -> Any:
        run = fresh()
        snapshot.load_snapshot(run, path)
        return run

    @examples(75)
    @given(st.data(), st.booleans())
    def check(data: st.DataObject, inner: bool) -> None:
        if inner:
            torch.save(data.draw(altered(saved, st.one_of(JUNK, tensors))), path)
        else:
            path.write_bytes(data.draw(damaged(valid_content)))
        read_counter.read(reached, continue_run)

    check()
    assert read_counter.rejected
    assert read_counter.accepted


class _Objective:
    name = "toy"

    def settings(self) -> dict[str, Any]:
        return {}
