"""Stops a run whose numbers are no longer numbers, before they reach a checkpoint."""

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.run.logging import CLOCK, Row
from ssmrl.shapes import PyTree

ADVICE = (
    "try a smaller agent.learning_rate or agent.max_grad_norm, look at the scale of rewards "
    "and observations (agent.normalize_reward=true), or set JAX_DEBUG_NANS=True to find the "
    "operation"
)


class Diverged(UsageError):
    """A metric or a parameter is NaN or infinite."""


def check_metrics(row: Row) -> None:
    """Raise if a metric is not finite; a return or a length may be where no episode ended.

    Raises:
        Diverged: names the metric, the seed and the update.
    """
    for name in row.keys() - set(CLOCK):
        for seed, value in enumerate(row[name]):
            none_ended = name in ("return", "length") and row["episodes"][seed] == 0
            if value is None and not none_ended:
                raise Diverged(f"{name} of seed {seed} is not finite at {_when(row)}; {ADVICE}")


def check_parameters(state: PyTree, row: Row) -> None:
    """Raise if a parameter of `state`, leaves (S, ...), is not finite.

    Raises:
        Diverged: names the parameter, the seed and the update.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(state, "params", state)):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            finite = np.isfinite(np.asarray(leaf)).reshape(leaf.shape[0], -1).all(axis=1)
            if not finite.all():
                name, seed = jax.tree_util.keystr(path), int(np.argmin(finite))
                raise Diverged(
                    f"parameter {name} of seed {seed} is not finite at {_when(row)}; {ADVICE}"
                )


def _when(row: Row) -> str:
    return f"update {row['update']} ({row['env_steps']} environment steps)"
