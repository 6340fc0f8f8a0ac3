"""Adam with a group of its own for the parameters of the recurrence."""

from collections.abc import Callable

import jax
import optax
from flax import nnx

from ssmrl.memory.nnx import FrozenParam, SSMParam
from ssmrl.shapes import Array


def adam(
    params: nnx.State,
    learning_rate: Callable[[Array], Array | float],
    *,
    ssm_learning_rate: float,
    weight_decay: float,
    max_grad_norm: float,
) -> optax.GradientTransformation:
    """Clipping by global norm, then Adam (epsilon 1e-5) for each group; `FrozenParam` stay.

    Eigenvalues and step lengths set how far a memory reaches; decaying them towards 0 or moving
    them as fast as other weights shortens it silently (S5, Smith et al. 2023, appendix G).

    Args:
        params: the network's parameters; which of them are `SSMParam` decides the group.
        learning_rate: schedule over gradient steps.
        ssm_learning_rate: multiple of it for `SSMParam`.
        weight_decay: decoupled, for all but `SSMParam`.
        max_grad_norm: clips the gradient of all parameters together.
    """

    def group(label: str) -> optax.GradientTransformation:
        if label == "frozen":
            return optax.set_to_zero()
        scale, decay = (ssm_learning_rate, 0.0) if label == "ssm" else (1.0, weight_decay)
        return optax.chain(
            optax.add_decayed_weights(decay),
            optax.scale_by_learning_rate(lambda count: scale * learning_rate(count)),
        )

    kinds = {SSMParam: "ssm", FrozenParam: "frozen"}
    labels = jax.tree.map(
        lambda v: kinds.get(type(v), "regular"),
        params,
        is_leaf=lambda v: isinstance(v, nnx.Variable),
    )
    groups = {label: group(label) for label in sorted(set(jax.tree.leaves(labels)))}
    directions = optax.chain(
        optax.clip_by_global_norm(max_grad_norm), optax.scale_by_adam(eps=1e-5)
    )
    # One vector instead of many arrays: far less to compile.
    return optax.chain(optax.flatten(directions), optax.multi_transform(groups, labels))
