"""Adam as R2I uses it, once for each network, and the gradient steps that follow a rollout."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from ssmrl.agents.r2i_config import R2IConfig
from ssmrl.nets import optimizer as nets
from ssmrl.shapes import Key, PyTree, Scalar

adam = partial(nets.adam, decay_vectors=False)
"""For the world model, the actor and the critic. The release clips every kind of parameter of the
recurrence apart; here one norm is clipped."""


def model_rule(params: nnx.State, config: R2IConfig) -> optax.GradientTransformation:
    """Of a world model: the recurrence has its own rate, and only matrices decay."""
    return adam(
        params,
        config.model_lr,
        eps=config.model_eps,
        max_grad_norm=config.model_clip,
        ssm_learning_rate=config.ssm_learning_rate,
        weight_decay=config.weight_decay,
    )


def actor_rule(params: nnx.State, config: R2IConfig) -> optax.GradientTransformation:
    """Of a policy."""
    return adam(params, config.actor_lr, eps=config.actor_eps, max_grad_norm=config.actor_clip)


def critic_rule(params: nnx.State, config: R2IConfig) -> optax.GradientTransformation:
    """Of values."""
    return adam(params, config.critic_lr, eps=config.critic_eps, max_grad_norm=config.critic_clip)


def descend(
    rule: optax.GradientTransformation, grads: nnx.State, state: PyTree, params: nnx.State
) -> tuple[nnx.State, PyTree]:
    """Parameters and optimiser state after one step."""
    updates, state = rule.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def learn_model(
    loss: Callable[[nnx.State], Any],
    rule: optax.GradientTransformation,
    state: PyTree,
    params: nnx.State,
) -> tuple[tuple[nnx.State, PyTree], PyTree, dict[str, Scalar]]:
    """One gradient step of a world model.

    loss: parameters -> (loss, (latents, metrics)). Returns parameters and optimiser state, the
    latents, and the metrics by the names `model/...`.
    """
    (_, (latent, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(params)
    metrics = {f"model/{name}": jnp.nan_to_num(x) for name, x in metrics.items()}
    metrics["model/grad_norm"] = optax.tree.norm(grads)
    return descend(rule, grads, state, params), latent, metrics


def updates_where(
    ready: Scalar,
    update: Callable[[Any, Key], tuple[Any, dict[str, Scalar]]],
    count: int,
    learner: Any,
    key: Key,
) -> tuple[Any, dict[str, Scalar]]:
    """`count` updates of a learner where `ready`, else none; metrics are their means, else 0."""

    def some(learner: Any) -> tuple[Any, dict[str, Scalar]]:
        learner, metrics = jax.lax.scan(update, learner, jax.random.split(key, count))
        return learner, jax.tree.map(jnp.mean, metrics)

    def none(learner: Any) -> tuple[Any, dict[str, Scalar]]:
        shapes = jax.eval_shape(some, learner)[1]
        return learner, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    return jax.lax.cond(ready, some, none, learner)
