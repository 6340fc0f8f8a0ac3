"""What a world model knows after a step, and how the policy reads it (R2I, section 3.2)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssmrl.errors import unknown
from ssmrl.memory import real_view
from ssmrl.shapes import TBF, TBH, Array, PyTree

POLICY_INPUTS: dict[str, tuple[str, ...]] = {
    "output": ("deter", "stoch"),
    "hidden": ("stoch", "hidden"),
    "full": ("deter", "stoch", "hidden"),
}
"""Which parts of a latent the policy reads: pi(a|h,z), pi(a|z,x) or pi(a|h,z,x)."""


class Latent(NamedTuple):
    """The state of the world model after a step; leading axes `(T, *B)` or `(*B,)`.

    Attributes:
        deter: `(..., D)` h, read out of the memory; the prior of this step depends on it.
        stoch: `(..., G, C)` z, one-hot for each group, float32.
        hidden: x, the memory's carry after this step; it has read z and a of the step before,
            not yet z of this one.
    """

    deter: Array
    stoch: Array
    hidden: PyTree


def features(latent: Latent, policy_input: str = "output") -> TBF:
    """The parts of a latent that `policy_input` names, as one real vector `(..., F)`.

    Raises:
        UsageError: a policy input that is unknown.
    """
    if policy_input not in POLICY_INPUTS:
        raise unknown("policy input", policy_input, POLICY_INPUTS)
    parts = [getattr(latent, name) for name in POLICY_INPUTS[policy_input]]
    return as_vector(parts, latent.deter.shape[:-1])


def as_vector(parts: PyTree, leading: tuple[int, ...]) -> TBF:
    """All leaves `(*leading, ...)` side by side as real numbers, `(*leading, F)` float32."""

    def flat(x: Array) -> TBH:
        return x.reshape(*leading, -1).astype(jnp.float32)

    return jnp.concatenate([flat(x) for x in jax.tree.leaves(real_view(parts))], axis=-1)
