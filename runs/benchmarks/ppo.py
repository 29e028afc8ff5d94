"""Environment steps per second of our PPO inner loop beside rejax's PPO, at rejax's own configurations.

Both train the same networks on the same environment with the same numbers of streams, steps, epochs and minibatches
for the same environment steps, from a state that was initialised before the clock ran. rejax's evaluations are switched
off: only its training is timed. CartPole is configured as in its `configs/gymnax/cartpole.yaml`, Breakout as in its
`benchmark/breakout_1m.yaml`; networks are its default, two hidden layers of 64.

Many agents are trained as each project trains them: ours as `learned-rl transfer` does, in micro-batches over one
device per core; rejax's under one `vmap`, as its documentation says, which leaves the cores to the compiler.

What ours does in addition: it bootstraps from the observation before a reset, and so stores it and evaluates the value
twice where rejax does once; it clips the gradient's norm where rejax clips each entry of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax

from learned_rl.families import fixed
from learned_rl.lifetime import Lifetime
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Adam
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift
from runs.benchmarks.timing import Row, compiled, in_turns
from runs.devices import lives_over
from runs.transfer import at_once
from truncation.lives import over_lives

MISSING = "rejax is not installed: ours only. `pip install 'learned-rl[bench]'` for the comparison"


@dataclass(frozen=True)
class Setting:
    """A configuration of PPO that both implementations are given."""

    env_id: str
    streams: int
    steps: int
    epochs: int
    minibatches: int
    learning_rate: float
    discount: float
    max_norm: float
    trace: float = 0.95
    clip: float = 0.2
    entropy: float = 0.01
    value_cost: float = 0.5


CARTPOLE = Setting("CartPole-v1", 5, 100, 5, 5, learning_rate=0.00075, discount=0.99, max_norm=0.5)
BREAKOUT = Setting("Breakout-MinAtar", 32, 32, 4, 4, learning_rate=0.00025674, discount=0.995, max_norm=1.0)
CASES = ((CARTPOLE, 1, 100), (CARTPOLE, 64, 10), (BREAKOUT, 1, 30), (BREAKOUT, 64, 2))  # setting, agents, updates


def ours(s: Setting, agents: int, updates: int) -> tuple[Callable[[], Any], float]:
    """Our training of `agents` agents for `updates` updates: the compiled call, and seconds to compile it."""
    coefficients = Coefficients(s.learning_rate, s.discount, s.trace, s.entropy, s.value_cost, s.clip)
    rule = Drift(
        coefficients=coefficients, optimizer=Adam(max_norm=s.max_norm), epochs=s.epochs, minibatches=s.minibatches
    )
    lifetime = Lifetime(fixed(s.env_id), rule, Network(MLP((64, 64))), s.streams, s.steps, updates)

    jax.eval_shape(lifetime.policy.init, jax.random.key(0))  # builds the environment here, not inside a shard

    def life(agent, key):
        keys = jax.random.split(key, updates)
        return jax.lax.scan(lambda a, k: (lifetime.live((), a, k)[0], None), agent, keys)[0], ()

    keys = jax.random.split(jax.random.key(0), agents)
    born = jax.jit(jax.vmap(lambda key: lifetime.start((), key)))(keys)
    microbatch = at_once(agents)
    with lives_over(agents // microbatch):
        train, seconds = compiled(lambda b, k: over_lives(life, (), b, k, microbatch=microbatch)[0], born, keys)
    return lambda: train(born, keys), seconds


def rejax(s: Setting, agents: int, updates: int) -> tuple[Callable[[], Any], float]:
    """The same of rejax.

    Raises:
      ImportError: it is not installed.
    """
    import gymnax
    from rejax import PPO  # type: ignore[import-not-found]

    class OneDone:
        """rejax 0.1 expects gymnax's old step of five values, and copies its configuration deeply: gymnax's own wrapper
        for the old step cannot be copied, since it looks up `_env` on itself before it has one."""

        def __init__(self, env: Any):
            self._env = env

        def __deepcopy__(self, memo: dict) -> "OneDone":
            return self

        def __getattr__(self, name: str) -> Any:
            return getattr(self._env, name)

        def step(self, key, state, action, params):
            obs, state, reward, terminated, truncated, info = self._env.step(key, state, action, params)
            return obs, state, reward, terminated | truncated, info

    env, env_params = gymnax.make(s.env_id)
    total = updates * s.streams * s.steps
    algorithm = PPO.create(
        env=OneDone(env),
        env_params=env_params,
        agent_kwargs={"activation": "tanh"},
        num_envs=s.streams,
        num_steps=s.steps,
        num_epochs=s.epochs,
        num_minibatches=s.minibatches,
        learning_rate=s.learning_rate,
        max_grad_norm=s.max_norm,
        gamma=s.discount,
        gae_lambda=s.trace,
        clip_eps=s.clip,
        ent_coef=s.entropy,
        vf_coef=s.value_cost,
        total_timesteps=total,
        eval_freq=total,  # one evaluation, at the end, and that one is nothing
        skip_initial_evaluation=True,
    ).replace(eval_callback=lambda algorithm, state, key: ())
    keys = jax.random.split(jax.random.key(0), agents)
    state = jax.jit(jax.vmap(algorithm.init_state))(keys)
    train, seconds = compiled(jax.vmap(lambda state: algorithm.train(train_state=state)[0]), state)
    return lambda: train(state), seconds


def measure(rounds: int) -> Iterator[Row]:
    """One row per environment and number of agents; the ratio is ours / rejax's."""
    for setting, agents, updates in CASES:
        yield _row(setting, agents, updates, rounds)


def _row(s: Setting, agents: int, updates: int, rounds: int) -> Row:
    call, compile_seconds = ours(s, agents, updates)
    contenders: dict[str, Callable[[], Any]] = {"ours": call}
    details: dict[str, Any] = {"compile_seconds": compile_seconds}
    try:
        contenders["rejax"], details["rejax_compile_seconds"] = rejax(s, agents, updates)
    except ImportError:
        details["note"] = MISSING
    timed = in_turns(contenders, rounds)
    env_steps = agents * updates * s.streams * s.steps
    ratio = None
    if "rejax" in timed:
        ratio = timed["rejax"].speedup_of(timed["ours"])
        details["rejax_env_steps_per_second"] = env_steps / timed["rejax"].median
        details["cpu_ratio"] = timed["rejax"].cpu_speedup_of(timed["ours"])
    name = f"{s.env_id}, {agents} agent{'s' if agents > 1 else ''}"
    return Row(name, env_steps / timed["ours"].median, "env steps/s", ratio, ">= 1.0 (aim 1.3)", details)
