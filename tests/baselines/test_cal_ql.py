"""Cal-QL: its loss against a literal transcription, its learner against its promises."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from baselines import cal_ql
from baselines.cal_ql import Learner, Noise, Settings
from baselines.offline import Replay, returns_to_go
from baselines.publish import publish
from obdbench.datasets.dataset import Dataset
from obdbench.errors import InvalidDataError
from obdbench.policies.networks import MLP4
from obdbench.tasks.task import TASKS
from obdbench.teachers.teacher import Teacher

HOPPER = TASKS["hopper"]
TINY = Settings(steps=8, warmup=3, batch=16, samples=2, penalized=5, bfloat16=False)


def toy(size: int = 300, seed: int = 0, name: str = "toy") -> Dataset:
    """Random transitions in episodes of 20 steps, ended by terminals and time-outs in turn."""
    rng = np.random.default_rng(seed)
    terminals, timeouts = np.zeros(size, bool), np.zeros(size, bool)
    terminals[19::40], timeouts[39::40] = True, True
    return Dataset(
        f"embedded/{name}",
        HOPPER,
        rng.normal(size=(size, 11)).astype(np.float32),
        rng.uniform(-1, 1, (size, 3)).astype(np.float32),
        rng.normal(1, 1, size).astype(np.float32),
        terminals,
        rng.normal(size=(size, 11)).astype(np.float32),
        timeouts,
    )


def bandit(size: int = 2000) -> Dataset:
    """One step an episode; the reward falls with the distance to a linear function of the state."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(size, 11)).astype(np.float32)
    actions = rng.uniform(-1, 1, (size, 3)).astype(np.float32)
    rewards = 5 - 10 * np.square(actions - best_action(observations)).sum(1)
    ended, open_end = np.ones(size, bool), np.zeros(size, bool)
    return Dataset(
        "embedded/bandit", HOPPER, observations, actions, rewards, ended, observations, open_end
    )


def best_action(observations: np.ndarray) -> np.ndarray:
    return (0.5 * np.tanh(observations[:, :3])).astype(np.float32)


@hypothesis_settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=6))
def test_returns_to_go_follow_their_definition(episodes: list[tuple[int, bool]]) -> None:
    total = sum(length for length, _ in episodes)
    dataset = toy(total)
    dataset.terminals[:] = dataset.timeouts[:] = False
    expected, row, discount = [], 0, 0.9
    for length, ended in episodes:
        (dataset.terminals if ended else dataset.timeouts)[row + length - 1] = True
        rewards = dataset.rewards[row : row + length].astype(float)
        beyond = 0.0 if ended else rewards[-10:].mean() / (1 - discount)
        for t in range(length):
            tail = discount ** (length - t) * beyond
            expected.append(sum(discount**k * rewards[t + k] for k in range(length - t)) + tail)
        row += length
    assert returns_to_go(dataset, discount) == pytest.approx(np.array(expected), rel=1e-4, abs=1e-4)


def test_a_dataset_without_next_observations_is_refused() -> None:
    dataset = replace(toy(), next_observations=None)
    with pytest.raises(InvalidDataError, match="next observations"):
        Replay([dataset], 0.99)


def test_a_sample_has_the_density_of_the_squashed_gaussian() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, noise = (torch.randn(7, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    log_std = torch.full_like(mean, -0.7)
    actions, densities = cal_ql.sample(mean, log_std, noise)
    gaussian = torch.distributions.Normal(mean, log_std.exp())
    squash = torch.distributions.TanhTransform(cache_size=1)
    squashed = torch.distributions.TransformedDistribution(gaussian, squash)
    raw = mean + log_std.exp() * noise
    assert torch.allclose(actions, squash(raw))
    expected = squashed.log_prob(squash(raw)).sum(-1)
    assert torch.allclose(densities, expected)


def literal_loss(learner: Learner, batch: cal_ql.Batch, noise: Noise, index: int) -> torch.Tensor:
    """The loss of one dataset, state by state, as the module's docstring states it."""
    settings = learner.settings

    def q(params: dict[str, torch.Tensor], s: torch.Tensor, a: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for critic in (2 * index, 2 * index + 1):
            x = torch.cat([s, a])
            for i in range(3):
                x = params[f"w{i}"][critic] @ x + params[f"b{i}"][critic]
                x = torch.relu(x) if i < 2 else x
            found.append(x.squeeze())
        return found

    def pi(s: torch.Tensor, n: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own = {name: tensor[index : index + 1] for name, tensor in learner.actor.items()}
        mean, log_std = (part[0, 0] for part in MLP4.apply(own, s[None, None]))
        gaussian = torch.distributions.Normal(mean, log_std.exp())
        raw = mean + log_std.exp() * n
        density = gaussian.log_prob(raw) - torch.log1p(-torch.tanh(raw).square())
        return torch.tanh(raw), density.sum()

    frozen = {name: tensor.detach() for name, tensor in learner.critics.items()}
    log_temperature = learner.log_temperature[index]
    total = torch.zeros(())
    for row in range(settings.batch):
        s, a, after = (
            getattr(batch, field)[index, row] for field in ("states", "actions", "next_states")
        )
        with torch.no_grad():
            future = min(q(learner.targets, after, pi(after, noise.following[index, row])[0]))
            goal = (
                batch.rewards[index, row]
                + settings.discount * future * (batch.continues[index, row])
            )
            goal = torch.clamp(goal, batch.lowest[index, 0], batch.highest[index, 0])
            goal = goal + settings.anchoring * (batch.returns[index, row] - goal)
        taken = q(learner.critics, s, a)
        total = total + sum(0.5 * (each - goal) ** 2 for each in taken) / settings.batch
        action, density = pi(s, noise.acting[index, row])
        temperature = log_temperature.exp().detach()
        total = total + (temperature * density - min(q(frozen, s, action))) / settings.batch
        total = total - log_temperature * (density.detach() - 3) / settings.batch
        mode, _ = pi(s, torch.zeros(3))
        total = total + settings.cloning * (mode - a).square().mean() / settings.batch
        if row >= settings.penalized:
            continue
        for critic in range(2):
            terms = []
            for k in range(settings.samples):
                drawn = noise.uniform[index, k, row]
                terms.append(q(learner.critics, s, drawn)[critic] + 3 * math.log(2))
                for where, n in ((s, noise.here), (after, noise.there)):
                    with torch.no_grad():
                        drawn, density = pi(where, n[index, k, row])
                    estimate = q(learner.critics, s, drawn)[critic]
                    floor = batch.returns[index, row]
                    terms.append(torch.maximum(estimate, floor) - density)
            gap = torch.logsumexp(torch.stack(terms), 0) - taken[critic]
            total = total + settings.conservatism * gap / settings.penalized
    return total


def test_loss_and_gradients_are_those_of_the_definition() -> None:
    learner = Learner([toy(seed=1), toy(seed=2)], TINY)
    batch = learner.replay.draw(TINY.batch, learner.generator)
    noise = Noise.draw(2, 3, TINY, learner.generator)
    with torch.no_grad():
        for tensor in learner.critics.values():
            tensor.mul_(1.5)  # so that critics and targets differ
    leaves = [*learner.actor.values(), *learner.critics.values(), learner.log_temperature]
    loss, report = cal_ql.cal_ql_loss(
        learner.actor,
        learner.critics,
        learner.targets,
        learner.log_temperature,
        batch,
        noise,
        TINY,
    )
    literal = literal_loss(learner, batch, noise, 0) + literal_loss(learner, batch, noise, 1)
    assert loss.item() == pytest.approx(literal.item(), rel=1e-4)
    assert {name: tuple(tensor.shape) for name, tensor in report.items()} == dict.fromkeys(
        ("td", "gap", "q", "temperature"), (2,)
    )
    for found, expected in zip(
        torch.autograd.grad(loss, leaves), torch.autograd.grad(literal, leaves), strict=True
    ):
        assert torch.allclose(found, expected, rtol=2e-3, atol=2e-4)


def test_calibration_spares_what_lies_below_the_behaviour() -> None:
    learner = Learner([toy()], TINY)
    batch = learner.replay.draw(TINY.batch, learner.generator)
    noise = Noise.draw(1, 3, TINY, learner.generator)
    gaps = []
    for floor in (-1e3, 1e3):
        calibrated = replace(batch, returns=torch.full_like(batch.returns, floor))
        _, report = cal_ql.cal_ql_loss(
            learner.actor,
            learner.critics,
            learner.targets,
            learner.log_temperature,
            calibrated,
            noise,
            TINY,
        )
        gaps.append(float(report["gap"]))
    assert gaps[1] > gaps[0] + 1_000


def test_an_interrupted_run_ends_where_the_other_does(tmp_path: Path) -> None:
    datasets = [toy(seed=1), toy(seed=2)]
    straight, broken, resumed = (Learner(datasets, TINY) for _ in range(3))
    for _ in range(TINY.steps):
        straight.advance()
    for _ in range(5):
        broken.advance()
    broken.save(tmp_path / "resume.pt")
    resumed.resume(tmp_path / "resume.pt")
    for _ in range(TINY.steps - 5):
        resumed.advance()
    for name in cal_ql.STACKS:
        for key, tensor in getattr(straight, name).items():
            assert torch.equal(tensor, getattr(resumed, name)[key]), (name, key)


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    Learner([toy()], TINY).save(tmp_path / "resume.pt")
    other = Learner([toy()], replace(TINY, batch=17))
    with pytest.raises(InvalidDataError, match="other data or settings"):
        other.resume(tmp_path / "resume.pt")
    (tmp_path / "resume.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(InvalidDataError, match="cannot be read"):
        other.resume(tmp_path / "resume.pt")


def test_it_finds_the_good_actions_among_random_ones() -> None:
    dataset = bandit()
    settings = Settings(
        steps=300, warmup=50, batch=64, penalized=16, actor_lr=1e-3, critic_lr=2e-3, cloning=0.0
    )
    learner = Learner([dataset], settings)
    for _ in range(settings.steps):
        learner.advance()
    teacher = learner.teacher(0, {})
    best = best_action(dataset.observations)
    error = np.square(teacher.act(dataset.observations) - best).sum(1).mean()
    assert error < 0.25 * np.square(dataset.actions - best).sum(1).mean()
    good = teacher.value(dataset.observations, best).mean()
    usual = teacher.value(dataset.observations, dataset.actions).mean()
    assert good > usual + 5
    assert usual == pytest.approx(float(dataset.rewards.mean()), abs=4)


def test_bfloat16_changes_the_loss_little() -> None:
    datasets, losses = [toy(seed=1)], []
    for bfloat16 in (False, True):
        settings = replace(TINY, bfloat16=bfloat16)
        learner = Learner(datasets, settings)
        batch = learner.replay.draw(TINY.batch, learner.generator)
        noise = Noise.draw(1, 3, TINY, learner.generator)
        stacks = (learner.actor, learner.critics, learner.targets, learner.log_temperature)
        losses.append(cal_ql.cal_ql_loss(*stacks, batch, noise, settings)[0].item())
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


def test_a_published_teacher_is_the_trained_policy(tmp_path: Path) -> None:
    learner = Learner([toy(name="hopper-medium-v0")], TINY)
    for _ in range(4):
        learner.advance()
    learner.keep_best([1.0])
    exact = learner.teacher(0, {})
    learner.advance()
    learner.keep_best([0.5])
    (path,) = publish(learner, tmp_path, episodes=3)
    assert path.name == "hopper-medium-v0-teacher.safetensors"
    teacher = Teacher.load(path)
    observations, actions = toy().observations, toy().actions
    assert np.abs(teacher.act(observations) - exact.act(observations)).max() < 5e-3
    scale = learner.replay.scales[0]
    state = torch.from_numpy(learner.datasets[0].standardizer.apply(observations))[None]
    q = cal_ql.values(learner.best_critics, state, torch.from_numpy(actions)[None], torch.float32)
    expected = scale * q[0].amin(0).detach().numpy()
    assert exact.value(observations, actions) == pytest.approx(expected, rel=1e-3, abs=1e-3)
    assert teacher.card["measured"]["episodes"] == 3
    assert teacher.id == "embedded/hopper-medium-v0"
