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
from support.fuzzing import Tried, examples, reader
from support.toys import make_toy_dataset, make_toy_teacher

from obdbench.datasets.dataset import Standardizer
from obdbench.distillation import loop, snapshot
from obdbench.distillation.settings import DistillSettings
from obdbench.distillation.synset import Synset
from obdbench.objectives import density
from obdbench.objectives.objective import make_objective
from obdbench.reporting.show import describe_file
from obdbench.teachers import checkpoint, teacher

DATASET = make_toy_dataset(40)
MOMENTS = Standardizer(np.zeros(11, np.float32), np.ones(11, np.float32))
SETTINGS = DistillSettings(pairs=4, steps=2, inner_steps=2, batch=4, architecture="mlp2")


def parts(whole: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and what follows it."""
    size = int.from_bytes(whole[:8], "little")
    return json.loads(whole[8 : 8 + size]), whole[8 + size :]


def joined(header: Any, rest: bytes) -> bytes:
    text = as_json(header)
    return len(text).to_bytes(8, "little") + text + rest


def tensors_of(whole: bytes) -> dict[str, Any]:
    from safetensors.numpy import load

    return load(whole)


DTYPES = st.sampled_from(["BF16", "F16", "F64", "F8_E4M3", "F4", "C64", "BOOL", "I8", "U64"])


@st.composite
def metadata(draw: st.DrawFn, sound: dict[str, str]) -> dict[str, str]:
    held = dict(sound)
    for name in draw(st.lists(st.sampled_from(sorted(sound)), max_size=2)):
        held.pop(name, None)
        if draw(st.booleans()):
            held[name] = draw(st.one_of(st.sampled_from(WORDS), st.text(max_size=8), JUNK.map(str)))
    return held


@st.composite
def hostile(draw: st.DrawFn, whole: bytes) -> bytes:
    """A safetensors file with damaged bytes, an altered header, or junk in a sound container."""
    header, rest = parts(whole)
    how = draw(st.sampled_from(["bytes", "header", "tensors"]))
    if how == "bytes":
        return draw(damaged(whole))
    if how == "header":
        return joined(draw(altered(header, st.one_of(JUNK, DTYPES))), rest)
    held = draw(altered_arrays(tensors_of(whole)))
    known = {k: np.ascontiguousarray(v) for k, v in held.items() if v.dtype.kind in "fiub"}
    return save(known, metadata=draw(metadata(header["__metadata__"])))


def acts(found: teacher.Teacher) -> None:
    """A teacher that was taken gives actions, values and its checksum."""
    size = found.observation_size
    columns = found.columns(np.zeros((3, size), np.float32))
    assert columns["teacher_actions"].shape == (3, found.action_size)
    assert len(found.checksum) == 64


@reader("teachers (safetensors)")
def test_teacher(place: Path, tried: Tried) -> None:
    path = place / "teacher.safetensors"
    make_toy_teacher(DATASET).save(path)
    whole = path.read_bytes()

    @examples(150)
    @given(hostile(whole))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        tried.reads(lambda: teacher.Teacher.load(path), acts)

    check()
    assert tried.refused
    assert tried.taken


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


def repickled(whole: bytes, pickled: bytes) -> bytes:
    """The archive with another description of its content, sums and all."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            held = old.read(entry)
            new.writestr(entry.filename, pickled if entry.filename.endswith("data.pkl") else held)
    return buffer.getvalue()


@reader("published checkpoints (.pt)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_published_checkpoint(place: Path, tried: Tried) -> None:
    sound = good_checkpoint()
    whole = saved(sound)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        pickled = next(archive.read(n) for n in archive.namelist() if n.endswith("data.pkl"))
    path = place / "teacher.pt"

    @examples(200)
    @given(st.data(), st.sampled_from(["bytes", "pickle", "content", "content"]))
    def check(data: st.DataObject, what: str) -> None:
        if what == "bytes":
            content = data.draw(damaged(whole))
        elif what == "pickle":
            content = repickled(whole, data.draw(damaged(pickled)))
        else:
            content = saved(data.draw(altered(sound, st.one_of(TENSORS, JUNK))))
        path.write_bytes(content)
        before = sorted(place.iterdir())
        tried.reads(
            lambda: checkpoint.teacher_from_checkpoint(
                checkpoint.read_checkpoint(path), "hopper", MOMENTS, {}
            ),
            acts,
        )
        assert sorted(place.iterdir()) == before

    check()
    assert tried.refused
    assert tried.taken


def a_synset() -> Synset:
    return Synset(
        states=DATASET.states[:4],
        actions=DATASET.actions[:4],
        standardizer=DATASET.standardizer,
        task=DATASET.task,
        card={"dataset": DATASET.id, "step": 3, "seed": 0, "settings": {"pairs": 4}},
    )


@reader("synsets and their cards, loaded and shown")
def test_synset_and_its_card(place: Path, tried: Tried) -> None:
    path = a_synset().save(place / "synset.safetensors")
    whole, card_path = path.read_bytes(), path.with_suffix(".json")
    card = card_path.read_bytes()

    @examples(200)
    @given(st.data(), st.sampled_from(["file", "file", "card", "card's bytes"]))
    def check(data: st.DataObject, what: str) -> None:
        path.write_bytes(data.draw(hostile(whole)) if what == "file" else whole)
        held = card
        if what == "card":
            held = as_json(data.draw(altered(json.loads(card))))
        elif what == "card's bytes":
            held = data.draw(damaged(card))
        card_path.write_bytes(held)
        tried.reads(lambda: Synset.load(path), lambda found: found.observations)
        shown = tried.reads(lambda: describe_file(path))
        assert shown is None or shown.startswith("synset")

    check()
    assert tried.refused
    assert tried.taken


def goes_on(run: Any) -> None:
    """A run that took a snapshot can yield its points and take a step."""
    for step in list(run.points):
        loop.evaluation_point(run, step, DATASET, _Objective(), SETTINGS, [0, 1])
    synsets = [run.states, run.actions]
    run.optimizer.update(0, synsets, [value.clone() for value in synsets])


@reader("snapshots")
def test_snapshot(place: Path, tried: Tried) -> None:
    """A run goes on from what it can use, and says what to do where it cannot."""
    path = place / "snapshot"

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
    whole = path.read_bytes()
    header, rest = parts(whole)
    state = json.loads(header["__metadata__"]["state"])

    def reached() -> Any:
        run = fresh()
        snapshot.load_snapshot(run, path)
        return run

    @examples(150)
    @given(st.data(), st.booleans())
    def check(data: st.DataObject, inner: bool) -> None:
        content = data.draw(hostile(whole))
        if inner:
            altered_state = json.dumps(data.draw(altered(state)))
            content = joined({**header, "__metadata__": {"state": altered_state}}, rest)
        path.write_bytes(content)
        tried.reads(reached, goes_on)

    check()
    assert tried.refused
    assert tried.taken


class _Objective:
    name = "toy"

    def settings(self) -> dict[str, Any]:
        return {}


@reader("cached densities", outcome="computed anew, or an array that can be used")
def test_density_cache(place: Path, tried: Tried) -> None:
    """A damaged cache is a cache that is not there."""
    buffer = io.BytesIO()
    np.save(buffer, np.linspace(-3, 0, 40, dtype=np.float32))
    path = place / "density.npy"

    @examples(150)
    @given(damaged(buffer.getvalue()))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        found = tried.reads(lambda: density.read_cached_density(path, 40))
        if found is not None:
            assert found.shape == (40,)
            assert found.dtype == np.float32
            assert not np.isnan(found).any()

    check()
    assert tried.taken
    assert not tried.refused
