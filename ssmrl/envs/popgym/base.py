"""What POPGym's environments share beyond `Game`: scoring, and whose rules are played."""

import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.shapes import Scalar

POPJAXRL = "popjaxrl"
"""The older JAX port whose rules `compat` reproduces where its published scores need them."""


def right_or_wrong(right: Scalar, scale: float) -> Scalar:
    """+scale where `right` (bool), else -scale: float32."""
    return jnp.where(right, jnp.float32(scale), jnp.float32(-scale))


def is_popjaxrl(compat: str | None) -> bool:
    """Whether the rules of popjaxrl are asked for; UsageError unless "popjaxrl" or None."""
    if compat not in (None, POPJAXRL):
        raise UsageError(f"compat: expected {POPJAXRL!r} or None (popgym 1.0.7), got {compat!r}")
    return compat is not None
