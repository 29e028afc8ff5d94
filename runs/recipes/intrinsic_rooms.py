"""A reward that remembers a whole life, for four rooms where what is worth going for is hidden. Wants a GPU."""

from learned_rl import families
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.intrinsic.learned import LifetimeReward
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.rules.intrinsic.value import LifetimeValue
from meta_objectives.lifetime import LifetimeSurrogate
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from truncation import TruncatedBackprop


def experiment() -> Experiment:
    """Zheng et al. 2020's Random ABC and lifetime-history reward, with tables as agents, scaled to minutes.

    One stream, as there; lives of 1200 steps, at least 40 episodes; agents that see r_in alone. Meta-gradients go
    through 2 segments of 5 updates.
    """
    tasks = families.random_abc()
    room = {"observation": tasks.obs_shape[0], "action": 0}
    agent = ActorCritic(Coefficients(learning_rate=2.0, discount=0.9, entropy=0.01), Sgd())
    return Experiment(
        name="intrinsic-rooms",
        rule=LifetimeValue(Intrinsic(agent, LifetimeReward(64, **room), extrinsic=0.0), 64, **room),
        families=(tasks,),
        outer=GradientDescent(
            TruncatedBackprop(horizon=30, window=2, lives=512, stagger=True), learning_rate=1e-3, max_norm=1.0
        ),
        objective=LifetimeSurrogate(discount=0.99),
        network=Network(MLP(())),
        inner=Inner(streams=1, steps=8, updates=150, segment=5),
        steps=10_000,
        report_every=100,
        checkpoint_every=1000,
        transfer=Transfer(suite="rooms", against=("a2c", "count-bonus"), seeds=100, allow_overlap=True),
    )
