"""One update of soft actor-critic against the same formulas in PyTorch's automatic derivatives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch

jax = pytest.importorskip("jax", reason="SAC needs the extra 'collect'")
pytest.importorskip("optax", reason="SAC needs the extra 'collect'")

from obdbench.collection import soft_actor_critic as sac  # noqa: E402

SETTINGS = sac.Hyperparameters(1e-3, 2e-3, 2, 0.9, 0.1, action_dim=2)


def make_batch(seed: int = 0, rows: int = 16) -> sac.Batch:
    rng = np.random.default_rng(seed)
    return sac.Batch(
        rng.normal(size=(rows, 3)).astype(np.float32),
        np.tanh(rng.normal(size=(rows, 2))).astype(np.float32),
        rng.normal(size=rows).astype(np.float32),
        rng.normal(size=(rows, 3)).astype(np.float32),
        (rng.random(rows) < 0.3).astype(np.float32),
    )


def to_torch(parameters: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {
        name: torch.tensor(np.array(value), requires_grad=True)
        for name, value in parameters.items()
    }


def torch_features(parameters: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    for layer in (0, 1):
        x = torch.relu(x @ parameters[f"Dense_{layer}/kernel"] + parameters[f"Dense_{layer}/bias"])
    return x


def torch_output(
    parameters: Mapping[str, torch.Tensor], features: torch.Tensor, layer: int
) -> torch.Tensor:
    return features @ parameters[f"Dense_{layer}/kernel"] + parameters[f"Dense_{layer}/bias"]


def torch_value(
    critic: Mapping[str, torch.Tensor], states: torch.Tensor, actions: torch.Tensor
) -> torch.Tensor:
    return torch_output(critic, torch_features(critic, torch.cat([states, actions], 1)), 2)[:, 0]


@pytest.fixture(autouse=True)
def exact_factors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Products in float32, as PyTorch's are."""
    monkeypatch.setattr(sac, "FACTORS", np.float32)
    yield
    jax.clear_caches()


def close(actual: Any, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    expected_array = expected.detach().numpy()
    scale = max(float(np.abs(expected_array).max()), 1e-6)
    np.testing.assert_allclose(np.array(actual), expected_array, atol=tolerance * scale)


def test_the_log_density_is_that_of_a_squashed_gaussian():
    state = sac.init_learner(0, 3, SETTINGS)
    states = make_batch().observations
    actions, log_density = sac.sample_action(state.actor, states, jax.random.key(7))
    actor = to_torch(state.actor)
    features = torch_features(actor, torch.tensor(states))
    mean, log_std = torch_output(actor, features, 2), torch_output(actor, features, 3)
    base = torch.distributions.Normal(mean, log_std.exp())
    squashed = torch.distributions.TransformedDistribution(
        base, [torch.distributions.TanhTransform()]
    )
    expected = squashed.log_prob(torch.tensor(np.array(actions))).sum(1)
    close(log_density, expected)


def test_critics_step_against_the_gradient_of_the_squared_temporal_difference():
    state, batch = sac.init_learner(0, 3, SETTINGS), make_batch()
    after = sac.update_critics(state, batch, SETTINGS)
    _, action_key = jax.random.split(state.key)
    next_actions, log_density = sac.sample_action(state.actor, batch.next_observations, action_key)
    following = torch.tensor(batch.next_observations), torch.tensor(np.array(next_actions))
    critics = [to_torch(critic) for critic in state.critics]
    smallest = torch.stack([torch_value(critic, *following) for critic in critics]).amin(0)
    soft = smallest - torch.tensor(np.array(log_density))  # the temperature starts at 1
    target = torch.tensor(batch.rewards) + 0.9 * (1 - torch.tensor(batch.terminals)) * soft
    pairs = torch.tensor(batch.observations), torch.tensor(batch.actions)
    for index, critic in enumerate(critics):
        (0.5 * (torch_value(critic, *pairs) - target.detach()) ** 2).mean().backward()
        first_moment = after.critic_optimizer[0].mu[index]
        for name, parameter in critic.items():
            assert parameter.grad is not None
            close(first_moment[name], 0.1 * parameter.grad)  # Adam: (1 - 0.9) times the gradient
            moved = 0.9 * state.targets[index][name] + 0.1 * after.critics[index][name]
            np.testing.assert_allclose(after.targets[index][name], moved, atol=1e-6)


def test_the_actor_steps_against_the_gradient_of_its_loss_and_the_temperature_follows_entropy():
    state, batch = sac.init_learner(1, 3, SETTINGS), make_batch(1)
    after = sac.update_actor(state, batch, SETTINGS)
    _, action_key = jax.random.split(state.key)
    noise = torch.tensor(np.array(jax.random.normal(action_key, (16, 2))))
    actor, critics = to_torch(state.actor), [to_torch(critic) for critic in state.critics]
    states = torch.tensor(batch.observations)
    features = torch_features(actor, states)
    mean, log_std = torch_output(actor, features, 2), torch_output(actor, features, 3)
    before_tanh = mean + log_std.exp() * noise
    density = torch.distributions.Normal(mean, log_std.exp()).log_prob(before_tanh)
    log_density = (density - torch.log(1 - torch.tanh(before_tanh) ** 2 + 1e-12)).sum(1)
    values = [torch_value(critic, states, torch.tanh(before_tanh)) for critic in critics]
    (log_density - torch.stack(values).amin(0)).mean().backward()
    for name, parameter in actor.items():
        assert parameter.grad is not None
        close(after.actor_optimizer[0].mu[name], 0.1 * parameter.grad)
    surplus = float(-log_density.detach().mean()) + SETTINGS.action_dim
    assert float(after.log_alpha) == pytest.approx(-1e-3 * np.sign(surplus), rel=1e-2)


def test_the_actor_moves_at_every_second_update():
    state = sac.init_learner(0, 3, SETTINGS)
    before = np.array(state.actor["Dense_0/kernel"])

    def run(batches: int) -> sac.LearnerState:
        stacked = jax.tree.map(lambda *rows: np.stack(rows), *map(make_batch, range(batches)))
        return sac.update(sac.init_learner(0, 3, SETTINGS), stacked, SETTINGS)

    np.testing.assert_array_equal(run(1).actor["Dense_0/kernel"], before)
    assert np.abs(np.array(run(2).actor["Dense_0/kernel"]) - before).max() > 0
    assert int(run(3).updates) == 3


def test_a_state_survives_as_arrays():
    state = sac.init_learner(0, 3, SETTINGS)
    restored = sac.from_arrays(sac.init_learner(5, 3, SETTINGS), sac.to_arrays(state))
    batch = jax.tree.map(lambda row: row[None], make_batch())
    first, second = (sac.update(each, batch, SETTINGS) for each in (state, restored))
    for a, b in zip(sac.to_arrays(first), sac.to_arrays(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rounded_factors_change_a_product_by_the_precision_of_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(8, 64)), rng.normal(size=(64, 4))
    monkeypatch.setattr(sac, "FACTORS", jax.numpy.bfloat16)
    error = np.abs(np.array(sac.product(a.astype(np.float32), b.astype(np.float32))) - a @ b)
    assert 0 < error.max() < 2**-8 * (np.abs(a) @ np.abs(b)).max()
