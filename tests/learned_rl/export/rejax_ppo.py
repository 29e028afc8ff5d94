"""rejax's PPO with an objective and an optimizer that were exported; nothing of this project is installed here.

python -I rejax_ppo.py FOLDER
"""

import json
import sys

sys.path.insert(0, sys.argv[1])
import jax
import numpy as np
import rejax
from dpo_rule import loss
from residual_rule import optimizer


class Exported(rejax.get_algo("ppo")):
    """Twelve lines: what is minimised, and what by."""

    def init_state(self, rng):
        tx, ts = optimizer(learning_rate=self.learning_rate), super().init_state(rng)
        made = {n: (s := getattr(ts, n)).replace(tx=tx, opt_state=tx.init(s.params)) for n in ("actor_ts", "critic_ts")}
        return ts.replace(**made)

    def update(self, ts, batch):
        def total(actor, critic, t=batch.trajectories):
            log_prob, entropy = self.actor.apply(actor, t.obs, t.action, method="log_prob_entropy")
            said = {"log_prob": log_prob, "entropy": entropy, "value": self.critic.apply(critic, t.obs)}
            acted = {"behaviour_log_prob": t.log_prob, "behaviour_value": t.value}
            return loss(**said, **acted, advantage=batch.advantages, target=batch.targets)

        actor, critic = jax.grad(total, argnums=(0, 1))(ts.actor_ts.params, ts.critic_ts.params)
        ts = ts.replace(actor_ts=ts.actor_ts.apply_gradients(grads=actor))
        return ts.replace(critic_ts=ts.critic_ts.apply_gradients(grads=critic))


def main(folder):
    for ours in ("learned_rl", "runs", "mlflow"):
        assert ours not in sys.modules
    settings = {"env": "CartPole-v1", "num_envs": 8, "num_steps": 64, "num_epochs": 4, "num_minibatches": 4}
    ppo = Exported.create(**settings, total_timesteps=65_536, eval_freq=65_536, learning_rate=1e-3)
    _, (_, returns) = jax.jit(ppo.train)(jax.random.key(0))
    # And on inputs that the project computes too.
    given = dict(np.load(f"{folder}/given.npz"))
    params = {name[2:]: x for name, x in given.items() if name.startswith("p/")}
    tx = optimizer()
    gradient = jax.tree.map(lambda p: p + 0.5, params)
    updates, _ = tx.update(gradient, tx.init(params), params)
    value = loss(**{name[2:]: x for name, x in given.items() if name.startswith("l/")})
    np.savez(f"{folder}/said.npz", loss=value, **updates)
    print(json.dumps({"returns": [float(x) for x in returns.mean(axis=-1)]}))


if __name__ == "__main__":
    main(sys.argv[1])
