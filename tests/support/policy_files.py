"""Small policy files in the formats of other libraries, with the networks they contain."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

OBSERVATION, ACTION, WIDTH = 11, 3, 8
State = dict[str, Any]


def mlp(inputs: int, outputs: int, *, last: bool = True) -> nn.Sequential:
    layers = [nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.Linear(WIDTH, outputs)] if last else []))


@dataclass
class Policy:
    """A file and what its policy computes from raw observations."""

    path: Path
    mean: Callable[[Tensor], Tensor]  # before the tanh
    value: Callable[[Tensor, Tensor], Tensor] | None = None
    log_std: Callable[[Tensor], Tensor] | None = None


def prefixed(prefix: str, module: nn.Module) -> State:
    return {f"{prefix}.{name}": value for name, value in module.state_dict().items()}


def minimum(*critics: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    def value(states: Tensor, actions: Tensor) -> Tensor:
        inputs = torch.cat([states, actions], -1)
        return torch.stack([critic(inputs)[:, 0] for critic in critics]).amin(0)

    return value


def write_torch(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def to_bytes(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def write_sb3(path: Path, state: Any, settings: Any = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(settings or {"policy_kwargs": {}}))
        archive.writestr("policy.pth", to_bytes(state))
        archive.writestr("_stable_baselines3_version", "2.3.0")
    return path


def sb3_sac(folder: Path) -> Policy:
    hidden, mean, log_std = mlp(OBSERVATION, 0, last=False), nn.Linear(8, 3), nn.Linear(8, 3)
    critics = [mlp(OBSERVATION + ACTION, 1) for _ in range(2)]
    state = prefixed("actor.latent_pi", hidden) | prefixed("actor.mu", mean)
    state |= prefixed("actor.log_std", log_std)
    for index, critic in enumerate(critics):
        state |= prefixed(f"critic.qf{index}", critic)
        state |= prefixed(f"critic_target.qf{index}", mlp(OBSERVATION + ACTION, 1))
    return Policy(
        write_sb3(folder / "sac.zip", state),
        lambda x: mean(hidden(x)),
        minimum(*critics),
        lambda x: log_std(hidden(x)),
    )


def sb3_td3(folder: Path) -> Policy:
    actor, critic = mlp(OBSERVATION, ACTION), mlp(OBSERVATION + ACTION, 1)
    state = prefixed("actor.mu", nn.Sequential(*actor, nn.Tanh()))
    state |= prefixed("actor_target.mu", mlp(OBSERVATION, ACTION)) | prefixed("critic.qf0", critic)
    return Policy(write_sb3(folder / "td3.zip", state), actor, minimum(critic))


def write_d3(path: Path, states: State, algorithm: str = "sac", **params: Any) -> Path:
    encoder = {"type": "default", "params": {"activation": "relu", "use_batch_norm": False}}
    config = {
        "observation_shape": [OBSERVATION],
        "action_size": ACTION,
        "config": {"type": algorithm, "params": {"actor_encoder_factory": encoder, **params}},
    }
    content = {"torch": to_bytes(states), "config": json.dumps(config), "version": "2.8.1"}
    path.write_bytes(pickle.dumps(content))
    return path


def d3rlpy_sac(folder: Path) -> Policy:
    hidden, mean, log_std = mlp(OBSERVATION, 0, last=False), nn.Linear(8, 3), nn.Linear(8, 3)
    encoders = [mlp(OBSERVATION + ACTION, 0, last=False) for _ in range(2)]
    heads = [nn.Linear(8, 1) for _ in range(2)]
    policy = prefixed("_encoder._layers", hidden) | prefixed("_mu", mean)
    policy |= prefixed("_logstd", log_std)
    q_funcs: State = {}
    for index, (encoder, head) in enumerate(zip(encoders, heads, strict=True)):
        q_funcs |= prefixed(f"{index}._encoder._layers", encoder)
        q_funcs |= prefixed(f"{index}._fc", head)
    low, high = np.full(OBSERVATION, -2.0), np.full(OBSERVATION, 4.0)
    scaler = {"type": "min_max", "params": {"minimum": low.tolist(), "maximum": high.tolist()}}
    critics = [nn.Sequential(*pair) for pair in zip(encoders, heads, strict=True)]
    value = minimum(*critics)
    path = write_d3(
        folder / "sac.d3", {"policy": policy, "q_funcs": q_funcs}, observation_scaler=scaler
    )
    return Policy(
        path,
        lambda x: mean(hidden((x - 1) / 3)),
        lambda x, a: value((x - 1) / 3, a),
        lambda x: log_std(hidden((x - 1) / 3)),
    )


def d3rlpy_iql(folder: Path) -> Policy:
    hidden, mean = mlp(OBSERVATION, 0, last=False), nn.Linear(8, ACTION)
    policy = prefixed("_encoder._layers", hidden) | prefixed("_mu", mean)
    policy |= {"_logstd": torch.zeros(1, ACTION)}  # a sigmoid maps it to the middle of -5 to 2
    path = write_d3(folder / "iql.d3", {"policy": policy}, algorithm="iql")
    log_std = torch.full((ACTION,), -1.5)
    return Policy(path, lambda x: mean(hidden(x)), None, lambda x: log_std.expand(len(x), -1))


def d3rlpy_bc(folder: Path) -> Policy:
    hidden, head = mlp(OBSERVATION, 0, last=False), nn.Linear(8, ACTION)
    state = prefixed("_encoder._layers", hidden) | prefixed("_fc", head)
    scaler = {"type": "standard", "params": {"mean": [1.0] * 11, "std": [2.0] * 11, "eps": 0.5}}
    path = write_d3(folder / "bc.d3", {"imitator": state}, observation_scaler=scaler)
    return Policy(path, lambda x: head(hidden((x - 1) / 2.5)))


def corl_td3_bc(folder: Path) -> Policy:
    actor, critics = mlp(OBSERVATION, ACTION), [mlp(OBSERVATION + ACTION, 1) for _ in range(2)]
    content = {
        "actor": prefixed("net", nn.Sequential(*actor, nn.Tanh())),
        "critic_1": prefixed("net", critics[0]),
        "critic_2": prefixed("net", critics[1]),
        "total_it": 10,
    }
    return Policy(write_torch(folder / "td3bc.pt", content), actor, minimum(*critics))


def corl_iql(folder: Path) -> Policy:
    actor, critics = mlp(OBSERVATION, ACTION), [mlp(OBSERVATION + ACTION, 1) for _ in range(2)]
    content = {
        "actor": {**prefixed("net.net", actor), "log_std": torch.full((ACTION,), -1.5)},
        "qf": prefixed("q1.net", critics[0]) | prefixed("q2.net", critics[1]),
        "vf": prefixed("v.net", mlp(OBSERVATION, 1)),
    }
    path = write_torch(folder / "iql.pt", content)
    return Policy(path, actor, minimum(*critics), lambda x: torch.full((len(x), ACTION), -1.5))


def corl_sac_n(folder: Path) -> Policy:
    hidden, mean, log_std = mlp(OBSERVATION, 0, last=False), nn.Linear(8, 3), nn.Linear(8, 3)
    critics = [mlp(OBSERVATION + ACTION, 1) for _ in range(3)]
    critic: State = {}
    for layer in (0, 2, 4):
        linears = [network[layer] for network in critics]
        critic[f"critic.{layer}.weight"] = torch.stack([linear.weight.T for linear in linears])
        critic[f"critic.{layer}.bias"] = torch.stack([linear.bias[None] for linear in linears])
    actor = prefixed("trunk", hidden) | prefixed("mu", mean) | prefixed("log_sigma", log_std)
    path = write_torch(folder / "sacn.pt", {"actor": actor, "critic": critic})
    return Policy(path, lambda x: mean(hidden(x)), minimum(*critics), lambda x: log_std(hidden(x)))


def d4rl_policy(folder: Path, nonlinearity: str = "relu") -> Policy:
    hidden, mean, log_std = mlp(OBSERVATION, 0, last=False), nn.Linear(8, 3), nn.Linear(8, 3)
    path = folder / "hopper_medium-v2.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"] = np.zeros((4, OBSERVATION), np.float32)
        group = file.create_group("metadata/policy")
        layers = {"fc0": hidden[0], "fc1": hidden[2], "last_fc": mean, "last_fc_log_std": log_std}
        for name, layer in layers.items():
            group[f"{name}/weight"] = layer.weight.detach().numpy()
            group[f"{name}/bias"] = layer.bias.detach().numpy()
        group["nonlinearity"] = np.bytes_(nonlinearity)
        group["output_distribution"] = np.bytes_("tanh_gaussian")
    return Policy(path, lambda x: mean(hidden(x)), None, lambda x: log_std(hidden(x)))


RAW_OBSERVATIONS = (
    *(sb3_sac, sb3_td3, d3rlpy_sac, d3rlpy_iql, d3rlpy_bc, corl_sac_n, d4rl_policy),
)
STANDARDIZED = (corl_td3_bc, corl_iql)
