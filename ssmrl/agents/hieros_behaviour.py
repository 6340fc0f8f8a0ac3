"""How a level of Hieros learns to act: several rewards, a critic for each, one actor.

As R2I learns in imagination, but the policy also reads the subgoal it was given when it was
where imagination starts, held throughout; and its advantage is the weighted mean of those of
all rewards, each divided by the range of its own returns (Mattes et al. 2023, section 3; the
original divides only where the gradient is that of the path). Rewards are those of arriving in
a state, as in R2I; the original counts those of the state that is left.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ssmrl.agents.hieros_config import HierosConfig
from ssmrl.agents.hieros_subgoal import Autoencoder, novelty_reward, subgoal_reward
from ssmrl.agents.r2i_actor import Actor, Critic
from ssmrl.agents.r2i_imagination import Imagined, goes_on, imagine
from ssmrl.nets.distributions import Distribution
from ssmrl.nets.two_hot import TwoHot
from ssmrl.rl.imagined import (
    Percentiles,
    lambda_returns,
    return_scale,
    track_percentiles,
    trajectory_weights,
)
from ssmrl.shapes import TB, TBF, Array, B, Key, Scalar
from ssmrl.world_model import Latent, WorldModel

EXTRINSIC, SUBGOAL, NOVELTY = "extrinsic", "subgoal", "novelty"


class Critics(nnx.Module):
    """A critic for each of the rewards `heads`.

    Args:
        heads: names.
        width: F, of what the policy reads.
        config: sizes.
        rngs: its `params` stream makes the parameters.
    """

    def __init__(
        self, heads: Sequence[str], width: int, config: HierosConfig, *, rngs: nnx.Rngs
    ) -> None:
        c = config
        self.heads = nnx.Dict(
            {
                name: Critic(
                    width, c.critic_layers, c.critic_units, c.bins, c.critic_limit, rngs=rngs
                )
                for name in heads
            }
        )

    def __call__(self, x: TBF) -> dict[str, TwoHot]:
        """The distributions over returns for inputs `(*B, F)`."""
        return {name: critic(x) for name, critic in self.heads.items()}


class Start(NamedTuple):
    """Where imagination starts, `(N, ...)`.

    Attributes:
        latent: of replayed rows.
        alive: float32, 1 where the episode goes on there.
        goal: `(N, G, C)` one-hot, the subgoal at that row; None at the top.
    """

    latent: Latent
    alive: B
    goal: Array | None


class Trial(NamedTuple):
    """What a policy went through in imagination, H of its own steps from N starts.

    Attributes:
        input: what it read in all H + 1 states, its subgoal apart, `(H + 1, N, F)`.
        action: taken in the first H of them, `(H, N, ...)`.
        reward: of each kind, for each action, `(H, N)`.
        going: that the episode goes on after each action, `(H, N)`.
        alive, goal: of its `Start`.
    """

    input: TBF
    action: Array
    reward: dict[str, TB]
    going: TB
    alive: B
    goal: Array | None


class Networks(NamedTuple):
    """What learns from imagination, with parameters that a gradient is taken of, or not."""

    actor: Actor
    critics: Critics
    codes: Autoencoder


def heads(config: HierosConfig, has_goal: bool) -> dict[str, float]:
    """The rewards of a level and their weights."""
    weights = {EXTRINSIC: config.extrinsic_weight, NOVELTY: config.novelty_weight}
    if has_goal:
        weights[SUBGOAL] = config.subgoal_weight
    return {name: weight for name, weight in weights.items() if weight}


def with_goal(x: TBF, goal: Array | None) -> TBF:
    """What the policy reads: features `(*T, N, F)`, and the subgoal `(N, G, C)` beside them."""
    if goal is None:
        return x
    flat = goal.reshape(goal.shape[0], -1)
    return jnp.concatenate([x, jnp.broadcast_to(flat, (*x.shape[:-1], flat.shape[1]))], axis=-1)


def pursue(actor: Actor, goal: Array | None) -> Callable[[TBF], Distribution]:
    """The policy of features alone, with this subgoal."""
    return lambda x: actor(with_goal(x, goal))


def behaviour_loss(
    model: WorldModel,
    networks: Networks,
    constant: Networks,
    slow: Critics,
    start: Start,
    scales: dict[str, Percentiles],
    entropy_coef: Array | float,
    config: HierosConfig,
    pathwise: bool,
    key: Key,
) -> tuple[Scalar, tuple[dict[str, Percentiles], dict[str, Scalar]]]:
    """The losses of actor, critics and autoencoder together; each depends on its own parameters.

    Args:
        model: the world model, its parameters constant.
        networks: to be trained.
        constant: the same, their parameters constant.
        slow: moving averages of the critics.
        start: where imagination starts.
        scales: of the returns of each reward so far.
        entropy_coef: weight of the entropy.
        config: of the level.
        pathwise: whether the actor's gradient is that of the path (continuous actions).
        key: of the imagination.
    """
    path = _path(model, networks.actor, start, config, pathwise, key)
    arrived: Latent = jax.tree.map(lambda x: x[1:], path.latent)
    reward = rewards(model, constant.codes, arrived, start.goal)
    going = goes_on(model, arrived, config)
    trial = Trial(path.input, path.action, reward, going, start.alive, start.goal)
    critics = networks.critics, constant.critics, slow
    loss, (scales, metrics) = actor_critic_loss(
        trial, networks.actor, critics, scales, entropy_coef, config, pathwise
    )
    code_loss, found = networks.codes.loss(jax.lax.stop_gradient(path.latent.deter))
    metrics |= {"code_loss": code_loss, **{f"code/{name}": x for name, x in found.items()}}
    return loss + code_loss, (scales, metrics)


def actor_critic_loss(
    trial: Trial,
    actor: Actor,
    critics: tuple[Critics, Critics, Critics],
    scales: dict[str, Percentiles],
    entropy_coef: Array | float,
    config: HierosConfig,
    pathwise: bool,
) -> tuple[Scalar, tuple[dict[str, Percentiles], dict[str, Scalar]]]:
    """The losses of actor and critics together; each depends on its own parameters.

    Args:
        trial: made with this actor.
        actor: to be trained.
        critics: those to be trained, the same with constant parameters, their slow averages.
        scales: of the returns of each reward so far.
        entropy_coef: weight of the entropy.
        config: of the level.
        pathwise: whether the actor's gradient is that of the path.
    """
    fixed, (trained, constant, slow) = jax.lax.stop_gradient, critics
    reward, goal = trial.reward, trial.goal
    returns, value, weight = judge(trial, constant, config)
    scales = {name: track(scales[name], fixed(g)) for name, g in returns.items()}
    parts = {
        name: share * (returns[name] - value[name]) / _scale(scales, name, config)
        for name, share in _shares(config, reward).items()
    }
    advantage = sum(parts.values(), jnp.zeros(()))
    states = fixed(trial.input)
    pi = pursue(actor, goal)(states[:-1])
    entropy = pi.entropy()
    gain = advantage if pathwise else pi.log_prob(fixed(trial.action)) * fixed(advantage)
    actor_loss = jnp.mean(weight * -(gain + entropy_coef * entropy))
    critic_loss = _critic_loss(trained, slow, states, goal, returns, weight, config)
    metrics = {
        "actor_loss": actor_loss,
        "critic_loss": critic_loss,
        "entropy": jnp.mean(entropy),
        **{f"reward/{name}": jnp.mean(r) for name, r in reward.items()},
        **{f"value/{name}": jnp.mean(v) for name, v in value.items()},
        **{f"advantage/{name}": jnp.mean(jnp.abs(a)) for name, a in parts.items()},
        **{f"scale/{name}": _scale(scales, name, config) for name in scales},
    }
    return actor_loss + critic_loss, (scales, metrics)


def track(seen: Percentiles, returns: Array) -> Percentiles:
    """The moving percentiles after `returns`; the first ones are taken as they are, since the
    smallest range of intrinsic returns is no guard against averages that begin at 0."""
    first = (seen.low == 0) & (seen.high == 0)
    return track_percentiles(seen, returns, decay=jnp.where(first, 0.0, 0.99))


def _path(
    model: WorldModel,
    actor: Actor,
    start: Start,
    config: HierosConfig,
    pathwise: bool,
    key: Key,
) -> Imagined:
    policy = pursue(actor, start.goal)
    path = imagine(model, policy, start.latent, config, key)
    return path if pathwise else jax.lax.stop_gradient(path)


def rewards(
    model: WorldModel, codes: Autoencoder, arrived: Latent, goal: Array | None
) -> dict[str, TB]:
    """The rewards of arriving in these states, `(H, N)` each."""
    found = {
        EXTRINSIC: model.reward(arrived).mean(),
        NOVELTY: novelty_reward(codes(arrived.deter), arrived.deter),
    }
    if goal is not None:
        found[SUBGOAL] = subgoal_reward(codes.decode(goal)[None], arrived.deter)
    return found


def judge(
    trial: Trial, critics: Critics, config: HierosConfig
) -> tuple[dict[str, TB], dict[str, TB], TB]:
    """Lambda returns and values `(H, N)` of each reward that has a critic, and weights `(H, N)`."""
    going = trial.going
    value = {n: v.mean() for n, v in critics(with_goal(trial.input, trial.goal)).items()}
    returns = {
        n: lambda_returns(trial.reward[n], config.gamma * going, v[1:], config.lam)
        for n, v in value.items()
    }
    weight = trajectory_weights(jnp.concatenate([trial.alive[None], going[:-1]]), config.gamma)
    return returns, {n: v[:-1] for n, v in value.items()}, weight


def _critic_loss(
    critics: Critics,
    slow: Critics,
    states: TBF,
    goal: Array | None,
    returns: dict[str, TB],
    weight: TB,
    config: HierosConfig,
) -> Scalar:
    x, fixed, losses = with_goal(states[:-1], goal), jax.lax.stop_gradient, []
    for name, guess in critics(x).items():
        anchor = fixed(slow.heads[name](x).mean())
        likelihood = guess.log_prob(fixed(returns[name]))
        likelihood = likelihood + config.slow_weight * guess.log_prob(anchor)
        losses.append(jnp.mean(weight * -likelihood))
    return sum(losses, jnp.zeros(()))


def _shares(config: HierosConfig, reward: dict[str, TB]) -> dict[str, float]:
    """The weights of the rewards, which add up to 1."""
    weights = heads(config, has_goal=SUBGOAL in reward)
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def _scale(scales: dict[str, Percentiles], name: str, config: HierosConfig) -> Scalar:
    least = config.scale_floor if name == EXTRINSIC else config.intrinsic_floor
    return return_scale(scales[name], least)
