"""Synsets in the file formats of other libraries.

==========  ========================================================================================
``d3rlpy``  a replay buffer of d3rlpy 2 (``.h5``), read by ``d3rlpy.dataset.ReplayBuffer.load``
``hdf5``    D4RL's layout (``.hdf5``), read by D4RL's ``qlearning_dataset`` and ``sequence_dataset``
``minari``  a Minari dataset in the folder of Minari's local datasets
``npz``     NumPy arrays (``.npz``) in D4RL's layout, with next observations and the moments
``torch``   NumPy arrays (``.npz``) and a script (``.py``) that clones a policy from them
==========  ========================================================================================

Every pair becomes an episode of one step that ends with a terminal and has zero reward, because
readers drop steps that end with a timeout for lack of a next observation. Actions are written as
distilled. Most lie outside [-1, 1]: they are targets of cloning and not valid actions of the
environment.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np

from obdbench.datasets.dataset import Array, Standardizer
from obdbench.errors import InvalidSettingError, MissingExtraError, unknown_name
from obdbench.io import write_file
from obdbench.tasks.gymnasium_environment import make_from
from obdbench.tasks.task import Task

EXPORT_FORMATS = ("d3rlpy", "hdf5", "minari", "npz", "torch")
SUFFIXES = {".hdf5": "hdf5", ".h5": "d3rlpy", ".npz": "npz", ".py": "torch", "": "minari"}
D3RLPY_VERSION = "2.1"  # of the layout of d3rlpy's files
TORCH_SCRIPT = '''"""Clone a policy from the pairs of {data}: python {script}"""
from pathlib import Path
import numpy as np, torch
data = {{k: torch.from_numpy(v) for k, v in np.load(Path(__file__).with_name("{data}")).items()}}
states = (data["observations"] - data["state_mean"]) / data["state_scale"]
sizes = [states.shape[1], 256, 256, 256, data["actions"].shape[1]]
layers = [m for i, o in zip(sizes, sizes[1:]) for m in (torch.nn.Linear(i, o), torch.nn.ReLU())]
policy = torch.nn.Sequential(*layers[:-1], torch.nn.Tanh())
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
for step in range(200):
    loss = torch.nn.functional.mse_loss(policy(states), data["actions"])
    optimizer.zero_grad(), loss.backward(), optimizer.step()
print(f"cloning loss {{loss.item():.4f}}")
'''


def resolve_format(path: Path, name: str | None) -> str:
    """The format of this name, or the one that the suffix of ``path`` implies."""
    format_name = name or SUFFIXES.get(path.suffix, "")
    if format_name not in EXPORT_FORMATS:
        raise unknown_name("export format", format_name or path.suffix, EXPORT_FORMATS)
    return format_name


def export_pairs(
    path: Path,
    format_name: str,
    observations: Array,
    actions: Array,
    *,
    standardizer: Standardizer,
    task: Task,
    card: Mapping[str, Any],
) -> None:
    """Write raw observations and actions; for Minari, ``path`` is the identifier."""
    if format_name == "minari":
        _write_minari(path.as_posix(), observations, actions, task)
    elif format_name == "hdf5":
        write_file(path, _d4rl_file(observations, actions, card))
    elif format_name == "d3rlpy":
        write_file(path, _d3rlpy_file(observations, actions))
    else:
        data_path = path if format_name == "npz" else path.with_suffix(".npz")
        write_file(data_path, _npz_file(observations, actions, standardizer))
        if format_name == "torch":
            script = path.with_suffix(".py")
            text = TORCH_SCRIPT.format(data=data_path.name, script=script.name)
            write_file(script, text.encode())


def _npz_file(observations: Array, actions: Array, standardizer: Standardizer) -> bytes:
    content, n = BytesIO(), len(observations)
    np.savez(
        content,
        observations=observations,
        actions=actions,
        rewards=np.zeros(n, np.float32),
        next_observations=observations,
        terminals=np.ones(n, bool),
        timeouts=np.zeros(n, bool),
        state_mean=standardizer.mean,
        state_scale=standardizer.scale,
    )
    return content.getvalue()


def _d4rl_file(observations: Array, actions: Array, card: Mapping[str, Any]) -> bytes:
    """An HDF5 file whose last row repeats the last pair without an end of an episode.

    D4RL's ``qlearning_dataset`` omits the last row of every file, and ``sequence_dataset`` omits an
    episode without an end, so both return exactly the pairs.
    """
    content, n = BytesIO(), len(observations)
    columns = {
        "observations": np.concatenate([observations, observations[-1:]]),
        "actions": np.concatenate([actions, actions[-1:]]),
        "rewards": np.zeros(n + 1, np.float32),
        "terminals": np.arange(n + 1) < n,
        "timeouts": np.zeros(n + 1, bool),
    }
    with h5py.File(content, "w") as file:
        for name, column in columns.items():
            file.create_dataset(name, data=column)
        file.create_dataset("metadata/card", data=json.dumps(dict(card)))
        file.create_dataset("metadata/pairs", data=n)
    return content.getvalue()


def _d3rlpy_file(observations: Array, actions: Array) -> bytes:
    content = BytesIO()
    with h5py.File(content, "w") as file:
        file["columns"] = ["observations", "actions", "rewards", "terminated"]
        file["num_episodes"] = len(observations)
        file["version"] = D3RLPY_VERSION
        for index, (observation, action) in enumerate(zip(observations, actions, strict=True)):
            file[f"observations_{index}"] = observation[None]
            file[f"actions_{index}"] = action[None]
            file[f"rewards_{index}"] = np.zeros((1, 1), np.float32)
            file[f"terminated_{index}"] = True
    return content.getvalue()


def _write_minari(dataset_id: str, observations: Array, actions: Array, task: Task) -> None:
    """Create a Minari dataset whose action space contains the distilled actions."""
    try:
        import minari
        from minari.data_collector.episode_buffer import EpisodeBuffer
    except ImportError as error:
        raise MissingExtraError("Exporting to Minari", "minari") from error

    if re.fullmatch(r"([\w-]+/)*[\w-]+-v\d+", dataset_id) is None:
        raise InvalidSettingError(
            f"{dataset_id!r} is neither a file nor a dataset of Minari.",
            "Write a file with a suffix (.hdf5, .h5, .npz or .py), or a name such as hopper-v0.",
        )
    env = make_from(task.name, task.make_environment or task.env_id)
    bound = np.maximum(np.abs(actions).max(axis=0), 1.0)
    rows = zip(observations.astype(env.observation_space.dtype), actions, strict=True)
    buffers = [
        EpisodeBuffer(
            id=index,
            observations=[observation, observation],
            actions=[action],
            rewards=[0.0],
            terminations=[True],
            truncations=[False],
            infos={},
        )
        for index, (observation, action) in enumerate(rows)
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no author and no address of code
            minari.create_dataset_from_buffers(
                dataset_id=dataset_id,
                buffer=buffers,
                env=env,
                action_space=gymnasium.spaces.Box(-bound, bound, dtype=np.float32),
                algorithm_name="obdbench",
                description="Distilled pairs; every pair is an episode of one step with zero "
                "reward.",
            )
    except (TypeError, ValueError) as error:  # of an identifier that exists or has no version
        raise InvalidSettingError(
            f"Minari cannot create the dataset {dataset_id!r}: {' '.join(str(error).split())}",
            "Choose a new identifier with a version, such as obd/hopper-v0.",
        ) from error
    finally:
        env.close()
