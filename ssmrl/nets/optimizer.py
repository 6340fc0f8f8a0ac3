"""Adam with a group of its own for the parameters of the recurrence."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import nnx

from ssmrl.memory.nnx import FrozenParam, SSMParam
from ssmrl.shapes import Array


def adam(
    params: nnx.State,
    learning_rate: float | Callable[[Array], Array | float],
    *,
    max_grad_norm: float,
    eps: float = 1e-5,
    ssm_learning_rate: float = 1.0,
    weight_decay: float = 0.0,
    decay_vectors: bool = True,
) -> optax.GradientTransformation:
    """Clipping by global norm, Adam, then decay and rate of each group; `FrozenParam` stay.

    Eigenvalues and step lengths set how far a memory reaches; decaying them towards 0 or moving
    them as fast as other weights shortens it silently (S5, Smith et al. 2023, appendix G).

    Args:
        params: the network's parameters; which of them are `SSMParam` decides the group.
        learning_rate: a number, or a schedule over gradient steps.
        max_grad_norm: clips the gradient of all parameters together.
        eps: of Adam.
        ssm_learning_rate: multiple of the learning rate for `SSMParam`.
        weight_decay: decoupled, for all but `SSMParam`.
        decay_vectors: whether it applies to parameters with one axis or none as well.
    """

    def label(variable: nnx.Variable) -> str:
        if isinstance(variable, FrozenParam):
            return "frozen"
        if isinstance(variable, SSMParam):
            return "ssm"
        return "regular" if decay_vectors or variable.get_value().ndim > 1 else "spared"

    def group(name: str) -> optax.GradientTransformation:
        if name == "frozen":
            return optax.set_to_zero()
        scale = ssm_learning_rate if name == "ssm" else 1.0
        rate: Any = learning_rate
        return optax.chain(
            optax.add_decayed_weights(weight_decay if name == "regular" else 0.0),
            optax.scale_by_learning_rate(
                (lambda count: scale * rate(count)) if callable(rate) else scale * rate
            ),
        )

    labels = jax.tree.map(label, params, is_leaf=lambda v: isinstance(v, nnx.Variable))
    groups = {name: group(name) for name in sorted(set(jax.tree.leaves(labels)))}
    directions = optax.chain(optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam(eps=eps))
    # One vector instead of many arrays: far less to compile.
    return optax.chain(optax.flatten(directions), optax.multi_transform(groups, labels))
