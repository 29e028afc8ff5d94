"""One agent plays on after its training, and is drawn step by step."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree
from PIL import Image, ImageDraw

from learned_rl.lifetime import Lifetime
from learned_rl.rollout import collect, start_streams
from learned_rl.types import Params
from runs.durable import replace_file
from runs.films.scenes import Scene, scene
from runs.transfer import Contender
from runs.trials import Trial

STEPS = 120  # of play, at most
MILLISECONDS = 60  # a step
STRIP = 16  # pixels under the picture, for words
_KEY = 0x66696C6D


class Played(NamedTuple):
    """What happened, step by step: leaves `[STEPS, ...]`, before each step's action.

    Attributes:
      env: the environment's state.
      obs: what is seen in it.
      reward: of the action that follows.
      last: the action that follows ends the episode.
    """

    env: PyTree
    obs: Float[Array, "steps *obs"]
    reward: Float[Array, " steps"]
    last: Bool[Array, " steps"]


def film(trial: Trial, contender: Contender, first: tuple[PyTree, Params], path: Path) -> bool:
    """Writes an animated GIF of an agent that acts as its policy says, several episodes if they are short.

    Args:
      contender: who trained the agent; named in the caption, which the file holds as its comment.
      first: the agent's task, and its parameters after training.

    Returns:
      Whether the environment can be drawn; nothing is written if not.
    """
    drawn = scene(trial.tasks)
    if drawn is None:
        return False
    task, params = first
    life = Lifetime(trial.tasks, contender.rule, trial.network, 1, 1, trial.updates)
    played = jax.device_get(jax.jit(lambda t, p, k: _play(life, t, p, k))(task, params, jax.random.key(_KEY)))
    frames = list(_frames(drawn, jax.device_get(task), played))
    returns = _returns(played)
    ends = f"episodes that end: {len(returns)}, mean return {returns.mean():.3g}" if len(returns) else "no episode ends"
    says = f"An agent that {contender.name} trained on {trial.name}, {len(frames)} steps; {ends}."
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, _gif(frames, says))
    return True


def _play(life: Lifetime, task: PyTree, params: Params, key: PRNGKeyArray) -> Played:
    key_start, key_play = jax.random.split(key)
    progress = jnp.ones(())

    def step(streams, key):
        following, rollout = collect(life.tasks, task, life.policy, params, streams, key[None], progress)
        env, obs = jax.tree.map(lambda x: x[0], (streams.env, streams.obs))
        return following, Played(env, obs, rollout.reward[0, 0], rollout.last[0, 0])

    begun = start_streams(life.tasks, task, life.policy, 1, key_start)
    return jax.lax.scan(step, begun, jax.random.split(key_play, STEPS))[1]


def _returns(played: Played) -> Float[np.ndarray, " episodes"]:
    """Of the episodes that end."""
    ends = np.flatnonzero(played.last)
    total = np.concatenate([[0.0], np.cumsum(played.reward)])
    return np.diff(total[np.concatenate([[0], ends + 1])])


def _frames(drawn: Scene, task: Any, played: Played) -> Iterator[Image.Image]:
    """One picture a step, with the return so far beneath."""
    for i, so_far in enumerate(_so_far(played)):
        picture = drawn(task, jax.tree.map(lambda x, i=i: x[i], played.env), np.asarray(played.obs[i]))
        frame = Image.new("RGB", (picture.width, picture.height + STRIP), "white")
        frame.paste(picture, (0, 0))
        ImageDraw.Draw(frame).text((4, picture.height + 2), f"return {so_far:.4g}", fill="black")
        yield frame


def _so_far(played: Played) -> Iterator[float]:
    """The return of the episode under way, before each step."""
    total = 0.0
    for reward, last in zip(played.reward, played.last, strict=True):
        yield total
        total = 0.0 if last else total + float(reward)


def _gif(frames: list[Image.Image], says: str) -> bytes:
    out, (first, *others) = io.BytesIO(), [frame.quantize(32) for frame in frames]
    first.save(
        out, "GIF", save_all=True, append_images=others, duration=MILLISECONDS, loop=0, optimize=True, comment=says
    )
    return out.getvalue()
