"""A reward that remembers places, for rooms where what is worth going for is hidden. A quarter of an hour on a core."""

from learned_rl import families
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Sgd
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.intrinsic.places import PlaceReward
from learned_rl.rules.intrinsic.rule import Intrinsic
from meta_objectives.returns import LifetimeReturn
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from truncation import FullES


def experiment() -> Experiment:
    """Zheng et al. 2020's Random ABC and Key-Box, scaled: tables as agents, one stream, lives of 1200 steps."""
    agent = ActorCritic(Coefficients(learning_rate=3.0, discount=0.9, entropy=0.005), Sgd())
    steps = 300
    return Experiment(
        name="intrinsic-places",
        rule=Intrinsic(agent, PlaceReward(streams=1)),
        families=(families.random_abc(), families.key_box()),
        # Two hundred numbers and whole lives: nothing is cut, and what comes of exploring counts in full.
        outer=GradientDescent(FullES(horizon=15, lives=512, std=0.1, microbatch=64), 0.05, 0.1 ** (1 / steps)),
        objective=LifetimeReturn(final=0.5),
        network=Network(MLP(())),
        inner=Inner(streams=1, steps=8, updates=150, segment=10),
        steps=steps,
        report_every=10,
        checkpoint_every=50,
        transfer=Transfer(suite="rooms", against=("a2c", "count-bonus"), seeds=100, allow_overlap=True),
    )
