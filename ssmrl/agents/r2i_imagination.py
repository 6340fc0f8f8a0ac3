"""Learning to act in imagination (DreamerV3, Hafner et al. 2023; R2I, Samsami et al. 2024).

From latents of the replayed sequences the policy plays a few steps inside the world model.
The critic learns the lambda returns of these steps, the actor to raise them: by REINFORCE for
discrete actions, through the gradient of the model for continuous ones.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ssmrl.agents.r2i_actor import Actor, Critic
from ssmrl.agents.r2i_config import R2IConfig
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
from ssmrl.world_model import Latent, WorldModel, features


class Imagined(NamedTuple):
    """H imagined transitions from N starts.

    Attributes:
        latent: of all H + 1 states, `(H + 1, N, ...)`, without the memory's carry.
        input: what the policy reads in them, `(H + 1, N, F)`.
        action: taken in the first H of them, `(H, N, ...)`.
    """

    latent: Latent
    input: TBF
    action: Array


def some_rows(rows: Any, size: int, count: int | None, key: Key) -> Any:
    """`count` of the `size = T * B` rows that leaves `(T, B, ...)` have, or all of them where it
    is None: `(N, ...)`, without gradient; what imagination starts from."""
    rows = jax.lax.stop_gradient(jax.tree.map(lambda x: x.reshape(size, *x.shape[2:]), rows))
    if count is None:
        return rows
    chosen = jax.random.permutation(key, size)[:count]
    return jax.tree.map(lambda x: x.at[chosen].get(mode="promise_in_bounds"), rows)


def imagine(
    model: WorldModel,
    actor: Callable[[TBF], Distribution],
    start: Latent,
    config: R2IConfig,
    key: Key,
) -> Imagined:
    """Plays `config.horizon` steps with samples of policy and prior.

    start: `(N, ...)`; as in acting, its action is chosen once z of its observation is known, and
    the model steps from both. The policy's input carries no gradient: what earlier actions did
    to later ones is not their merit.
    """
    prepared = model.prepare()

    def read(latent: Latent) -> tuple[Latent, TBF]:
        return latent._replace(hidden=()), features(latent, config.policy_input)

    def step(latent: Latent, key: Key) -> tuple[Latent, tuple[Latent, TBF, Array]]:
        key_act, key_next = jax.random.split(key)
        light, x = read(latent)
        action = actor(jax.lax.stop_gradient(x)).sample(seed=key_act)
        return model.imagine_step(latent, action, key_next, prepared), (light, x, action)

    last, (latents, inputs, actions) = jax.lax.scan(
        step, start, jax.random.split(key, config.horizon)
    )
    latents, inputs = jax.tree.map(
        lambda x, y: jnp.concatenate([x, y[None]]), (latents, inputs), read(last)
    )
    return Imagined(latents, inputs, actions)


def judge(
    model: WorldModel, critic: Critic, path: Imagined, alive: B, config: R2IConfig
) -> tuple[Array, Array, Array, Array]:
    """Rewards and lambda returns `(H, N)`, values `(H + 1, N)` and weights `(H, N)` of a path.

    alive: 1 where the start is not terminal.
    """
    arrived = jax.tree.map(lambda x: x[1:], path.latent)
    reward = model.reward(arrived).mean()
    going = goes_on(model, arrived, config)
    value = critic(path.input).mean()
    returns = lambda_returns(reward, config.gamma * going, value[1:], config.lam)
    weight = trajectory_weights(jnp.concatenate([alive[None], going[:-1]]), config.gamma)
    return reward, returns, value, weight


def goes_on(model: WorldModel, arrived: Latent, config: R2IConfig) -> TB:
    """That the episode goes on at imagined states: its chance, or 0 or 1 where judged hard."""
    chance = model.cont(arrived).probs
    return chance if config.soft_continue else (chance > 0.5).astype(jnp.float32)


def actor_critic_loss(
    model: WorldModel,
    actor: Actor,
    critics: tuple[Critic, Critic, Critic],
    path: Imagined,
    alive: B,
    scale: Percentiles,
    entropy_coef: Array | float,
    config: R2IConfig,
    pathwise: bool,
) -> tuple[Scalar, tuple[Percentiles, dict[str, Scalar]]]:
    """The sum of both losses; each depends on its own network's parameters only.

    Args:
        model: the world model, its parameters constant.
        actor: to be trained.
        critics: the one to be trained, the same with constant parameters, its slow average.
        path: made with this actor.
        alive: 1 where the start is not terminal, `(N,)`.
        scale: of the returns so far.
        entropy_coef: weight of the entropy.
        config: of the agent.
        pathwise: whether the gradient of the actor is that of the path (continuous actions).
    """
    critic, constant, slow = critics
    reward, returns, value, weight = judge(model, constant, path, alive, config)
    fixed = jax.lax.stop_gradient
    scale = track_percentiles(scale, fixed(returns))
    advantage = (returns - value[:-1]) / return_scale(scale)
    states = fixed(path.input)
    pi = actor(states[:-1])
    log_prob, entropy = pi.log_prob(fixed(path.action)), pi.entropy()
    gain = advantage if pathwise else log_prob * fixed(advantage)
    actor_loss = jnp.mean(weight * -(gain + entropy_coef * entropy))
    guess = TwoHot(critic(states).logits[:-1], critic.limit)
    anchor = fixed(slow(states[:-1]).mean())
    likelihood = guess.log_prob(fixed(returns)) + config.slow_weight * guess.log_prob(anchor)
    critic_loss = jnp.mean(weight * -likelihood)
    return actor_loss + critic_loss, (
        scale,
        {
            "actor_loss": actor_loss,
            "critic_loss": critic_loss,
            "entropy": jnp.mean(entropy),
            "value": jnp.mean(value),
            "imagined_return": jnp.mean(returns),
            "imagined_reward": jnp.mean(reward),
            "advantage": jnp.mean(jnp.abs(advantage)),
            "return_scale": return_scale(scale),
        },
    )


def merged(graph: nnx.GraphDef, params: nnx.State, constant: bool = False) -> nnx.Module:
    """A network with these parameters, cut off from the gradient if `constant`."""
    return nnx.merge(graph, jax.lax.stop_gradient(params) if constant else params)
