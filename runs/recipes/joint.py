"""Everything at once: objective, optimizer, intrinsic reward and schedule, learned together from PPO with Adam."""

from learned_rl import families
from learned_rl.learned_optimizers.open import Open
from learned_rl.learned_optimizers.residual import Residual
from learned_rl.networks import MLP, Network
from learned_rl.optimizers import Adam
from learned_rl.rules.coefficients import Coefficients
from learned_rl.rules.drift import Drift, LearnedDrift
from learned_rl.rules.intrinsic.learned import LifetimeReward
from learned_rl.rules.intrinsic.rule import Intrinsic
from learned_rl.rules.optimised import Optimised
from learned_rl.rules.schedule import Schedule
from meta_objectives.returns import LifetimeReturn
from runs.experiment import Experiment, Inner, Transfer
from runs.learners import Evolution


def experiment() -> Experiment:
    """theta's parts are `schedule`, `base.reward`, `base.base.optimizer` and, the drift, `base.base.base`.

    Untrained, the whole is PPO with Adam, to rounding. Any part stays as it is with `--frozen PART,...`, or starts as
    in a rule that was learned before with `--loaded PART=RULE#PART_THERE`.
    """
    ppo = Drift(LearnedDrift(hidden=16), Coefficients(learning_rate=3e-3), Adam(), epochs=2, minibatches=2)
    optimised = Optimised(ppo, Residual(Adam(), Open()))
    rewarded = Intrinsic(optimised, LifetimeReward(hidden=16, observation=64, action=4), intrinsic=0.1)
    return Experiment(
        name="joint",
        rule=Schedule(rewarded, learned=("learning_rate", "discount", "trace", "entropy", "clip")),
        families=(families.catch(5, 5), families.cartpole()),
        # Its ranks are taken within a family: returns of CartPole are a hundred times those of Catch.
        outer=Evolution(strategy="Open_ES", population=32, horizon=10, std=0.03, learning_rate=0.03, microbatch=8),
        objective=LifetimeReturn(),
        network=Network(MLP((16,))),
        inner=Inner(streams=8, steps=16, updates=200, segment=20),
        steps=60,
        report_every=5,
        checkpoint_every=20,
        transfer=Transfer(suite="small", against=("a2c", "ppo"), seeds=8),
    )
