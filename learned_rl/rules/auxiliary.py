"""Learned auxiliary tasks: questions about the future that an agent should learn to answer."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from learned_rl.layers import mlp, start_mlp
from learned_rl.losses import squared_error
from learned_rl.optimizers import Adam, InnerOptimizer
from learned_rl.returns import lambda_returns
from learned_rl.rules.actor_critic import ActorCritic
from learned_rl.rules.intrinsic.reward import observed
from learned_rl.types import Heads, Metrics, Params, Policy, Rollout, Rule, RuleState, Theta


class Questions(NamedTuple):
    """What is asked of every step, each `[T, B, n]`: cumulants in (-1, 1), and discounts in (0, 1)."""

    cumulant: Float[Array, "T B n"]
    discount: Float[Array, "T B n"]


class AuxiliaryState(NamedTuple):
    """What the rule inside remembers, and the moments of the answers' optimizer."""

    base: RuleState
    moments: RuleState


@dataclass(frozen=True)
class Auxiliary:
    """Combinator: beside what `base` makes of a rollout, the agent learns to answer n learned questions about it.

        u_t, gamma_t = tanh, sigmoid of MLP_theta(s_{t+1})                               the questions
        G_t = u_t + gamma_t d_t [(1 - lambda) y(s_{t+1}) + lambda G_{t+1}]               what would have been right
        L   = E[(y(s_t) - G_t)^2] / 2                                                    over steps, streams, questions

    (Veeriah et al. 2019, section 3: general value functions whose cumulant and discount a question network draws from
    the future; lambda = 1, n-step returns, is theirs.) The answers y are a head of the agent, `answers`. Nothing acts
    on them: what a question is good for is the body that answering it makes, and the meta-gradient reaches theta
    through that body. So give agents `Network(separate=False)`: with separate bodies the answers shape what the value
    sees, and the policy only through the value.

    G is a constant of the agent's gradient, and not of the meta-gradient. theta = {"questions": the MLP, "base": ...}.

    Departures: the answers have a gradient step and an optimizer of their own, after the base's, so that any rule can
    be inside; the paper adds their loss to that of the agent. Questions see the one observation that a step led to, not
    a window of several. Cumulants are squashed by tanh.

    Attributes:
      base: how the agent learns its task.
      questions: n.
      hidden: width of the question network's two layers.
      observation: room for an observation: theta is made before it is known how large they are.
      trace: lambda.
      answer_rate, answer_optimizer: of the answers' own step.

    Raises:
      ValueError: `questions` is below 1, or `base` already has answers.
    """

    base: Rule = ActorCritic()
    questions: int = 16
    hidden: int = 64
    observation: int = 256
    trace: float = 1.0
    answer_rate: float = 1e-3
    answer_optimizer: InnerOptimizer = Adam()

    def __post_init__(self):
        if self.questions < 1:
            raise ValueError(f"questions={self.questions} must be at least 1")
        if "answers" in self.base.heads.flat:
            raise ValueError(f"base: a {type(self.base).__name__} already has a head `answers`")

    @property
    def heads(self) -> Heads:
        return Heads({**self.base.heads.flat, "answers": self.questions}, self.base.heads.per_action)

    def init(self, key: PRNGKeyArray) -> Theta:
        key_questions, key_base = jax.random.split(key)
        net = start_mlp(key_questions, self.observation, self.hidden, self.hidden, 2 * self.questions)
        return {"questions": net, "base": self.base.init(key_base)}

    def birth(self, theta: Theta, policy: Policy, key: PRNGKeyArray) -> tuple[Params, AuxiliaryState]:
        params, base = self.base.birth(theta["base"], policy, key)
        return params, AuxiliaryState(base, self.answer_optimizer.init(params))

    def asked(self, theta: Theta, rollout: Rollout) -> Questions:
        """The questions of every step."""
        out = mlp(theta["questions"], observed(rollout.next_obs, self.observation))
        cumulant, discount = jnp.split(out, 2, axis=-1)
        return Questions(jnp.tanh(cumulant), jax.nn.sigmoid(discount))

    def right_answers(
        self, asked: Questions, rollout: Rollout, following: Float[Array, "T B n"]
    ) -> Float[Array, "T B n"]:
        """G, given the agent's answers at `next_obs`."""

        def one(cumulant, discount, last, task_discount, following):  # of one stream and question, each [T]
            return lambda_returns(cumulant, discount * task_discount, last, following, 1.0, self.trace)

        of_streams = jax.vmap(one, in_axes=1, out_axes=1)
        of_questions = jax.vmap(of_streams, in_axes=(2, 2, None, None, 2), out_axes=2)
        return of_questions(*asked, rollout.last, rollout.discount, following)

    def update(
        self, theta: Theta, params: Params, state: AuxiliaryState, rollout: Rollout, policy: Policy, key: PRNGKeyArray
    ) -> tuple[Params, AuxiliaryState, Metrics]:
        params, base, metrics = self.base.update(theta["base"], params, state.base, rollout, policy, key)
        asked = self.asked(theta, rollout)
        # Made outside the loss: a constant of its gradient, through which the meta-gradient still flows.
        right = self.right_answers(asked, rollout, policy.unroll_next(params, rollout).flat["answers"])

        def loss(params: Params) -> Float[Array, ""]:
            return squared_error(policy.unroll(params, rollout).flat["answers"], right)

        answer_loss, gradient = jax.value_and_grad(loss)(params)
        params, moments = self.answer_optimizer.update(gradient, state.moments, params, self.answer_rate)
        metrics = metrics | {"answer_loss": answer_loss, "question_discount": jnp.mean(asked.discount)}
        return params, AuxiliaryState(base, moments), metrics
