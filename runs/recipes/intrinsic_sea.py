"""A reward that remembers places, for a sea whose treasure is found by going right at every step."""

from learned_rl import families
from learned_rl.networks import MLP, Network
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.intrinsic.places import PlaceReward
from learned_rl.rules.intrinsic.rule import Intrinsic
from meta_objectives.returns import LifetimeReturn
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from truncation import FullES


def experiment() -> Experiment:
    """Tables as agents, one stream, 400 episodes of bsuite's DeepSea 8, to be carried to deeper seas."""
    agent = ActorCritic(Coefficients(learning_rate=0.05, discount=0.99, entropy=0.01))
    steps = 200
    return Experiment(
        name="intrinsic-sea",
        rule=Intrinsic(agent, PlaceReward(streams=1)),
        families=(families.deep_sea(8),),
        outer=GradientDescent(FullES(horizon=40, lives=128, std=0.1, microbatch=64), 0.08, 0.1 ** (1 / steps)),
        objective=LifetimeReturn(),
        network=Network(MLP(())),
        inner=Inner(streams=1, steps=8, updates=400, segment=10),
        steps=steps,
        report_every=10,
        checkpoint_every=50,
        transfer=Transfer(suite=""),
    )
