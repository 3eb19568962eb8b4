"""Look at a synset: where its states lie in the data, and what they look like.

    python examples/tour/02_inspect_synset.py hopper.safetensors --out pictures

writes ``components.png``, the synset's states against the data's in the data's first two principal
components, and ``strip.png``, some distilled states as the simulator shows them. Rendering needs
EGL or OSMesa; where neither works, the strip is skipped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

import obdbench

SHOWN = 5_000  # dataset states in the plot
PROBE = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).render()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("synset", type=Path, help="a .safetensors file, as 01_distill.py saves it")
    parser.add_argument("--dataset", help="default: the one that the synset's card names")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the pictures")
    parser.add_argument("--frames", type=int, default=8, help="states in the strip")
    parser.add_argument("--quick", action="store_true", help="few and small frames")
    options = parser.parse_args()

    synset = obdbench.Synset.load(options.synset)
    dataset = obdbench.load_dataset(options.dataset or synset.card["dataset"])
    options.out.mkdir(parents=True, exist_ok=True)
    frames, size = (3, 64) if options.quick else (options.frames, 240)

    axes = principal_components(dataset.states)
    low, high = dataset.states.min(axis=0), dataset.states.max(axis=0)
    inside = ((synset.states >= low) & (synset.states <= high)).all(axis=1)
    print(f"{len(synset)} pairs, distilled by {synset.card['objective']} from {dataset.id}")
    print(
        f"{inside.mean():.0%} of their states lie within the range of the data in every coordinate"
    )
    print(f"wrote {plot(synset, dataset, axes, options.out / 'components.png')}")

    backend = rendering_backend()
    if backend is None:
        print("skipped the strip: neither EGL nor OSMesa renders here; set MUJOCO_GL to choose")
        return
    os.environ["MUJOCO_GL"] = backend
    order = np.argsort(synset.states @ axes[0])
    chosen = order[np.linspace(0, len(order) - 1, min(frames, len(order))).astype(int)]
    print(f"wrote {strip(synset, chosen, size, options.out / 'strip.png')} ({backend})")


def principal_components(states: np.ndarray) -> np.ndarray:
    """The two orthonormal directions in which the states vary most, as rows."""
    centered = states - states.mean(axis=0)
    _, directions = np.linalg.eigh(centered.T @ centered)  # eigenvalues ascend
    return directions[:, :-3:-1].T


def plot(synset: obdbench.Synset, dataset: obdbench.Dataset, axes: np.ndarray, path: Path) -> Path:
    """Distilled states over dataset states, colored by the first coordinate of their action."""
    rows = np.random.default_rng(0).choice(len(dataset), min(SHOWN, len(dataset)), replace=False)
    real, own = dataset.states[rows] @ axes.T, synset.states @ axes.T
    figure, canvas = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    canvas.scatter(*real.T, s=3, color="0.8", label=f"data ({len(rows):,} of {len(dataset):,})")
    dots = canvas.scatter(
        *own.T, s=16, c=synset.actions[:, 0], cmap="viridis", label=f"synset ({len(synset)})"
    )
    figure.colorbar(dots, label="distilled action, first coordinate")
    canvas.set(xlabel="first principal component", ylabel="second", title=dataset.id)
    canvas.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def rendering_backend() -> str | None:
    """The user's choice or the first of EGL and OSMesa that renders, tried in a process apart."""
    chosen = os.environ.get("MUJOCO_GL")
    for backend in [chosen] if chosen else ["egl", "osmesa"]:
        done = subprocess.run(
            [sys.executable, "-c", PROBE],
            env={**os.environ, "MUJOCO_GL": backend},
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return backend
    return None


def strip(synset: obdbench.Synset, chosen: np.ndarray, size: int, path: Path) -> Path:
    """Distilled states side by side. An observation holds all of a pose but the way travelled."""
    import gymnasium
    import mujoco

    model = gymnasium.make(synset.task.env_id).unwrapped.model
    data, images = mujoco.MjData(model), []
    with mujoco.Renderer(model, size, size) as renderer:
        for observation in synset.observations[chosen]:
            data.qpos[1:] = observation[: model.nq - 1]
            data.qvel[:] = observation[model.nq - 1 :]
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera="track")
            images.append(renderer.render())
    plt.imsave(path, np.concatenate(images, axis=1))
    return path


if __name__ == "__main__":
    main()
