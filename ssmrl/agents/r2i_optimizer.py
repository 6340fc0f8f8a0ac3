"""Adam as R2I uses it: once for the world model, once for the actor, once for the critic."""

import jax
import optax
from flax import nnx

from ssmrl.memory.nnx import FrozenParam, SSMParam
from ssmrl.shapes import PyTree


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
