"""Everything once, as small as it gets: one family, four outer steps, a tiny transfer. For CI, not for results."""

from learned_rl import families
from learned_rl.networks import MLP, Network
from learned_rl.rules.lpg import LPG
from meta_objectives.outer_critic import OuterCritic
from meta_objectives.validation import PolicyGradientSurrogate
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import GradientDescent
from truncation import TruncatedBackprop


def experiment() -> Experiment:
    tiny = Network(MLP((8,)))
    return Experiment(
        name="smoke",
        rule=LPG(predictions=4, hidden=8),
        families=(families.catch(5, 5),),
        outer=GradientDescent(TruncatedBackprop(horizon=2, window=1, lives=2, microbatch=1)),
        objective=PolicyGradientSurrogate(OuterCritic(tiny)),
        network=tiny,
        inner=Inner(streams=4, steps=4, updates=4, segment=2),
        steps=4,
        report_every=1,
        checkpoint_every=2,
        transfer=Transfer(suite="smoke", against=("a2c",), seeds=2),
    )
