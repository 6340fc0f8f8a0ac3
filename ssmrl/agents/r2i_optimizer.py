"""Adam as R2I uses it, once for each network, and the gradient steps that follow a rollout."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from ssmrl.memory.nnx import FrozenParam, SSMParam
from ssmrl.shapes import Key, PyTree, Scalar


def adam(
    params: nnx.State,
    learning_rate: float,
    *,
    eps: float,
    max_grad_norm: float,
    ssm_learning_rate: float = 1.0,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Clipping by the global norm of all gradients, Adam, decay of matrices, learning rate.

    Args:
        params: which of them are `SSMParam` (a rate of their own, no decay) or `FrozenParam`.
        learning_rate: for all but the recurrence.
        eps: of Adam.
        max_grad_norm: the release clips every kind of parameter of the recurrence apart; here
            one norm is clipped.
        ssm_learning_rate: multiple of the learning rate for `SSMParam`.
        weight_decay: decoupled, for parameters with two axes or more.
    """

    def label(variable: nnx.Variable) -> str:
        if isinstance(variable, FrozenParam):
            return "frozen"
        if isinstance(variable, SSMParam):
            return "ssm"
        return "matrix" if variable.get_value().ndim > 1 else "vector"

    def group(name: str) -> optax.GradientTransformation:
        if name == "frozen":
            return optax.set_to_zero()
        rate = learning_rate * (ssm_learning_rate if name == "ssm" else 1.0)
        decay = weight_decay if name == "matrix" else 0.0
        return optax.chain(optax.add_decayed_weights(decay), optax.scale_by_learning_rate(rate))

    labels = jax.tree.map(label, params, is_leaf=lambda v: isinstance(v, nnx.Variable))
    groups = {name: group(name) for name in sorted(set(jax.tree.leaves(labels)))}
    directions = optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam(eps=eps))
    # One vector instead of many arrays: far less to compile.
    return optax.chain(optax.flatten(directions), optax.multi_transform(groups, labels))


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
