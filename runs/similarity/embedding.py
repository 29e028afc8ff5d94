"""Distance by a learned embedding of transitions: how far apart tasks lie for a model that must tell what happens next.

Transitions of all tasks are pooled, made by the random policies of `runs.similarity.values`, and standardised. An
encoder maps x = (s, a) and y = (s' - s, r, terminated) to 8 numbers; a task's embedding z is their mean over
transitions. A decoder predicts the y of *other* transitions of the same task from x and z:

    L = mean over tasks of |decoder(x, z) - y|^2 + penalty |z|^2,      d(A, B) = |z_A - z_B|

(the context encoder of Rakelly et al. 2019 and Zintgraf et al. 2020, here with a forward model for a loss). z has to
say what differs between tasks and, for the penalty, nothing else. Two thirds of the transitions are not trained on and
embed every task twice; a square is the product of both, as in `runs.similarity.values`. Several encoders are trained,
and squares are averaged over them.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from learned_rl.types import Discrete, Params, Rollout
from runs.similarity.episodes import experience
from runs.similarity.lanes import at, grid, key_of, side_by_side
from runs.similarity.sets import TaskSet

TRANSITIONS, TRAINING = 41, 42  # roots of randomness
ENCODERS, SIZE, WIDTH = 4, 8, 64
STEPS, BATCH, LEARNING_RATE, PENALTY = 1000, 128, 3e-3, 1e-3


class Transitions(NamedTuple):
    """What was done where, and what came of it."""

    x: Float[Array, "... inputs"]
    y: Float[Array, "... outputs"]


def transitions(tasks: TaskSet, policies: Params, streams: int) -> Transitions:
    """Of every task, in three independent parts, `[3, n, transitions, ...]`, standardised over all of them."""
    part, task = grid(3, len(tasks))

    def lane(task: PyTree, key: PRNGKeyArray) -> Transitions:
        def one(params: Params, key: PRNGKeyArray) -> Transitions:
            return _read(tasks, experience(tasks, task, params, streams, key))

        found = jax.vmap(one)(policies, jax.random.split(key, len(jax.tree.leaves(policies)[0])))
        return jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), found)

    found = side_by_side(lane, at(tasks.tasks, task), key_of(TRANSITIONS, part, task))
    return jax.tree.map(lambda x: _standardised(x).reshape(3, len(tasks), *x.shape[1:]), found)


def _read(tasks: TaskSet, rollout: Rollout) -> Transitions:
    """`[T, B, ...]` as vectors."""
    actions = tasks.trial.tasks.actions
    lead = rollout.reward.shape

    def flat(x: Array) -> Array:
        return x.reshape(*lead, -1).astype(jnp.float32)

    action = jax.nn.one_hot(rollout.action, actions.count) if isinstance(actions, Discrete) else rollout.action
    x = [flat(rollout.obs), flat(action)]
    y = [flat(rollout.next_obs - rollout.obs), flat(rollout.reward), flat(1 - rollout.discount)]
    return Transitions(jnp.concatenate(x, axis=-1), jnp.concatenate(y, axis=-1))


def _standardised(x: Float[np.ndarray, "... n"]) -> Float[np.ndarray, "... n"]:
    """Zero mean and unit variance of every number; one that never changes is zero."""
    rows = x.reshape(-1, x.shape[-1])
    spread = rows.std(axis=0)
    return (x - rows.mean(axis=0)) / np.where(spread > 1e-6, spread, 1.0)


class _Model(nn.Module):
    """Encoder and decoder."""

    outputs: int

    def setup(self) -> None:
        self.encoder = nn.Sequential([nn.Dense(WIDTH), nn.tanh, nn.Dense(SIZE)])
        self.decoder = nn.Sequential([nn.Dense(WIDTH), nn.tanh, nn.Dense(self.outputs)])

    def embed(self, seen: Transitions) -> Float[Array, "tasks size"]:
        return self.encoder(jnp.concatenate(seen, axis=-1)).mean(axis=-2)

    def __call__(self, seen: Transitions, other: Transitions) -> Float[Array, ""]:
        z = self.embed(seen)
        told = jnp.broadcast_to(z[:, None], (*other.x.shape[:2], SIZE))
        guess = self.decoder(jnp.concatenate([other.x, told], axis=-1))
        return jnp.mean((guess - other.y) ** 2) + PENALTY * jnp.mean(jnp.sum(z**2, axis=-1))


def embeddings(data: Transitions) -> Float[np.ndarray, "encoders 2 n size"]:
    """Two embeddings of every task by every encoder, each from a part that no encoder was trained on."""
    model, optimizer = _Model(data.y.shape[-1]), optax.adam(LEARNING_RATE)
    train = Transitions(*(jnp.asarray(x[0]) for x in data))
    held_out = Transitions(*(jnp.asarray(x[1:]) for x in data))

    def batch(key: PRNGKeyArray) -> Transitions:
        count = train.x.shape[1]
        chosen = jax.random.randint(key, (train.x.shape[0], BATCH), 0, count)
        return Transitions(*(jnp.take_along_axis(x, chosen[..., None], axis=1) for x in train))

    def step(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, Float[Array, ""]]:
        params, state = carry
        one, other = jax.random.split(key)
        loss, gradient = jax.value_and_grad(model.apply)(params, batch(one), batch(other))  # type: ignore[arg-type]
        change, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, change), state), loss

    def encoder(key: PRNGKeyArray) -> Float[Array, "2 n size"]:
        key_init, key_train = jax.random.split(key)
        params = model.init(key_init, batch(key_init), batch(key_init))
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key_train, STEPS))
        return jax.vmap(lambda seen: model.apply(params, seen, method=model.embed))(held_out)  # type: ignore[return-value]

    return np.asarray(jax.jit(lambda keys: jax.lax.map(encoder, keys))(key_of(TRAINING, np.arange(ENCODERS))))


def distance(z: Float[np.ndarray, "encoders 2 n size"]) -> Float[np.ndarray, "n n"]:
    """d(A, B)."""
    apart = z[:, :, :, None, :] - z[:, :, None, :, :]
    square = np.sum(apart[:, 0] * apart[:, 1], axis=-1).mean(axis=0)
    return np.sqrt(np.maximum(square, 0.0))
