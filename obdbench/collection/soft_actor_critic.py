r"""The updates of soft actor-critic in JAX (Haarnoja et al., 2018, arXiv 1812.05905).

For a transition :math:`(s, a, r, s', d)` with terminal flag :math:`d`, the two critics
:math:`Q_i` minimize the squared distance to

.. math:: r + \gamma (1 - d) \big(\min_i \bar Q_i(s', a') - \alpha \log\pi(a' | s')\big),
   \quad a' \sim \pi(\cdot | s'),

the actor minimizes :math:`\alpha \log\pi(a | s) - \min_i Q_i(s, a)` with :math:`a \sim
\pi(\cdot | s)`, and :math:`\log\alpha` follows the gradient that moves the policy's entropy
towards the target, the negative number of action dimensions. :math:`\bar Q_i` are exponential
moving averages of the critics.

All networks have two hidden ReLU layers. The products of the hidden layers take factors in
``bfloat16`` and sum in ``float32``; parameters, output layers and optimizers are ``float32``.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from obdbench.collection.actor import LOG_STD_BOUNDS

HIDDEN = (256, 256)
CRITICS = 2
FACTORS = jnp.bfloat16  # precision of the factors in the products of hidden layers

Parameters = dict[str, jax.Array]


class Hyperparameters(NamedTuple):
    """What the updates depend on."""

    actor_lr: float
    critic_lr: float
    policy_delay: int
    discount: float
    target_rate: float
    action_dim: int


class Batch(NamedTuple):
    """Transitions, with any leading axes."""

    observations: jax.Array
    actions: jax.Array
    rewards: jax.Array
    next_observations: jax.Array
    terminals: jax.Array


class LearnerState(NamedTuple):
    """Parameters, optimizer states, number of critic updates so far and the random key."""

    actor: Parameters
    critics: tuple[Parameters, ...]
    targets: tuple[Parameters, ...]
    log_alpha: jax.Array
    actor_optimizer: Any
    critic_optimizer: Any
    alpha_optimizer: Any
    updates: jax.Array
    key: jax.Array


@jax.custom_vjp  # type: ignore[untyped-decorator, unused-ignore]
def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Matrix product with rounded factors and ``float32`` sums; so are those of its derivative."""
    return _contract(a, b, 1, 0)


def _contract(a: jax.Array, b: jax.Array, axis_a: int, axis_b: int) -> jax.Array:
    return jax.lax.dot_general(
        a.astype(FACTORS),
        b.astype(FACTORS),
        (((axis_a,), (axis_b,)), ((), ())),
        preferred_element_type=jnp.float32,
    )


def _product_forward(a: jax.Array, b: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return product(a, b), (a, b)


def _product_backward(
    factors: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    a, b = factors
    return _contract(gradient, b, 1, 1), _contract(a, gradient, 0, 0)


product.defvjp(_product_forward, _product_backward)


def init_network(key: jax.Array, sizes: tuple[int, ...], heads: tuple[int, ...]) -> Parameters:
    """LeCun-normal kernels and zero biases: hidden layers, then output layers side by side."""
    shapes = [*pairwise(sizes), *((sizes[-1], head) for head in heads)]
    parameters: Parameters = {}
    for layer, (layer_key, shape) in enumerate(
        zip(jax.random.split(key, len(shapes)), shapes, strict=True)
    ):
        init = jax.nn.initializers.lecun_normal()
        parameters[f"Dense_{layer}/kernel"] = init(layer_key, shape, jnp.float32)
        parameters[f"Dense_{layer}/bias"] = jnp.zeros(shape[1], jnp.float32)
    return parameters


def hidden_features(parameters: Parameters, x: jax.Array) -> jax.Array:
    """Output of the hidden layers."""
    for layer in range(len(HIDDEN)):
        kernel, bias = parameters[f"Dense_{layer}/kernel"], parameters[f"Dense_{layer}/bias"]
        x = jax.nn.relu(product(x, kernel) + bias)
    return x


def output(parameters: Parameters, features: jax.Array, head: int = 0) -> jax.Array:
    """One output layer."""
    layer = len(HIDDEN) + head
    return features @ parameters[f"Dense_{layer}/kernel"] + parameters[f"Dense_{layer}/bias"]


def action_value(critic: Parameters, observations: jax.Array, actions: jax.Array) -> jax.Array:
    """One critic's value of each pair."""
    pairs = jnp.concatenate([observations, actions], axis=-1)
    return output(critic, hidden_features(critic, pairs))[..., 0]


def smallest_value(
    critics: tuple[Parameters, ...], observations: jax.Array, actions: jax.Array
) -> jax.Array:
    """The smaller of the critics' values of each pair."""
    values = [action_value(critic, observations, actions) for critic in critics]
    return jnp.min(jnp.stack(values), axis=0)


def sample_action(
    actor: Parameters, observations: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    r"""Actions of the tanh-Gaussian policy and their log-density.

    The density of :math:`a = \tanh u` is the Gaussian's divided by :math:`1 - \tanh^2 u`, whose
    logarithm is computed as :math:`2(\log 2 - u - \text{softplus}(-2u))`.
    """
    features = hidden_features(actor, observations)
    mean = output(actor, features)
    log_std = jnp.clip(output(actor, features, head=1), *LOG_STD_BOUNDS)
    noise = jax.random.normal(key, mean.shape)
    before_tanh = mean + jnp.exp(log_std) * noise
    log_density = -0.5 * noise**2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    log_density -= 2 * (jnp.log(2.0) - before_tanh - jax.nn.softplus(-2 * before_tanh))
    return jnp.tanh(before_tanh), log_density.sum(axis=-1)


def init_learner(seed: int, observation_dim: int, settings: Hyperparameters) -> LearnerState:
    """Freshly drawn networks; the temperature starts at 1."""
    key, actor_key, *critic_keys = jax.random.split(jax.random.key(seed), 2 + CRITICS)
    action_dim = settings.action_dim
    actor = init_network(actor_key, (observation_dim, *HIDDEN), (action_dim, action_dim))
    sizes = (observation_dim + action_dim, *HIDDEN)
    critics = tuple(init_network(critic_key, sizes, (1,)) for critic_key in critic_keys)
    log_alpha = jnp.zeros(())
    return LearnerState(
        actor,
        critics,
        jax.tree.map(jnp.copy, critics),
        log_alpha,
        optax.adam(settings.actor_lr).init(actor),
        optax.adam(settings.critic_lr).init(critics),
        optax.adam(settings.actor_lr).init(log_alpha),
        jnp.zeros((), jnp.int32),
        key,
    )


@partial(jax.jit, static_argnames="settings", donate_argnames="state")
def update(state: LearnerState, batches: Batch, settings: Hyperparameters) -> LearnerState:
    """One critic update per batch; actor and temperature at every ``policy_delay``-th."""

    def one_update(state: LearnerState, batch: Batch) -> tuple[LearnerState, None]:
        state = update_critics(state, batch, settings)
        state = jax.lax.cond(
            state.updates % settings.policy_delay == 0,
            lambda state: update_actor(state, batch, settings),
            lambda state: state,
            state,
        )
        return state, None

    last: LearnerState = jax.lax.scan(one_update, state, batches)[0]
    return last


def update_critics(state: LearnerState, batch: Batch, settings: Hyperparameters) -> LearnerState:
    """One step of Adam on the critics' loss, and one of the moving averages."""
    key, action_key = jax.random.split(state.key)
    next_actions, log_density = sample_action(state.actor, batch.next_observations, action_key)
    following = smallest_value(state.targets, batch.next_observations, next_actions)
    following -= jnp.exp(state.log_alpha) * log_density
    target = batch.rewards + settings.discount * (1 - batch.terminals) * following

    def loss(critics: tuple[Parameters, ...]) -> jax.Array:
        errors = [
            action_value(critic, batch.observations, batch.actions) - target for critic in critics
        ]
        return sum((0.5 * (error**2).mean() for error in errors), jnp.zeros(()))

    critics, optimizer = adam_step(
        settings.critic_lr, jax.grad(loss)(state.critics), state.critic_optimizer, state.critics
    )
    targets = optax.incremental_update(critics, state.targets, settings.target_rate)
    return state._replace(
        critics=critics,
        targets=targets,
        critic_optimizer=optimizer,
        updates=state.updates + 1,
        key=key,
    )


def update_actor(state: LearnerState, batch: Batch, settings: Hyperparameters) -> LearnerState:
    """One step of Adam on the actor's loss, and one on the temperature's."""
    key, action_key = jax.random.split(state.key)

    def loss(actor: Parameters) -> tuple[jax.Array, jax.Array]:
        actions, log_density = sample_action(actor, batch.observations, action_key)
        values = smallest_value(state.critics, batch.observations, actions)
        return (jnp.exp(state.log_alpha) * log_density - values).mean(), -log_density.mean()

    gradient, entropy = jax.grad(loss, has_aux=True)(state.actor)
    actor, actor_optimizer = adam_step(
        settings.actor_lr, gradient, state.actor_optimizer, state.actor
    )
    surplus = entropy + settings.action_dim  # the target is -action_dim
    log_alpha, alpha_optimizer = adam_step(
        settings.actor_lr, surplus, state.alpha_optimizer, state.log_alpha
    )
    return state._replace(
        actor=actor,
        actor_optimizer=actor_optimizer,
        log_alpha=log_alpha,
        alpha_optimizer=alpha_optimizer,
        key=key,
    )


def adam_step(rate: float, gradient: Any, optimizer: Any, parameters: Any) -> tuple[Any, Any]:
    """Parameters and optimizer state after one step of Adam."""
    updates, optimizer = optax.adam(rate).update(gradient, optimizer, parameters)
    return optax.apply_updates(parameters, updates), optimizer


def to_arrays(state: LearnerState) -> list[np.ndarray[Any, Any]]:
    """The leaves of a state, for a file."""
    plain = state._replace(key=jax.random.key_data(state.key))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(plain)]


def from_arrays(like: LearnerState, arrays: list[np.ndarray[Any, Any]]) -> LearnerState:
    """The state with the structure of another and these leaves."""
    plain = like._replace(key=jax.random.key_data(like.key))
    leaves = [jnp.asarray(array) for array in arrays]
    state: LearnerState = jax.tree.unflatten(jax.tree.structure(plain), leaves)
    return state._replace(key=jax.random.wrap_key_data(state.key))
