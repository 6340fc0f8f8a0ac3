"""The parameters of a recurrence learn at a lower rate and do not decay.

Decay or the full rate on eigenvalues and step lengths shortens a memory without any error to
see (S5, Smith et al. 2023, appendix G.2; LRU, Orvieto et al. 2023, section 3).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ssmrl.errors import UsageError
from ssmrl.shapes import PyTree, Scalar

if TYPE_CHECKING:
    import optax

Rate = float | Callable[[Scalar], Scalar]
SSM_SHARE = 0.5  # of the learning rate, where no rate is given for the recurrence


def optimizer(
    labels: PyTree,
    learning_rate: Rate,
    ssm_learning_rate: Rate | None = None,
    weight_decay: float = 0.0,
) -> "optax.GradientTransformation":
    """AdamW by the groups of `Memory.labels`.

    Args:
        labels: "regular" (rate and decay as given), "ssm" (rate of its own, no decay) or
            "frozen" (never changes) for every parameter; a label may stand for a whole subtree,
            as in `{"memory": mem.labels(params), "head": "regular"}`.
        learning_rate: of the regular parameters; a number or an Optax schedule.
        ssm_learning_rate: of the recurrence; None for half of `learning_rate`.
        weight_decay: of the regular parameters, decoupled.

    Returns:
        An Optax transformation. Needs Optax installed.

    Raises:
        UsageError: a negative rate or decay.
    """
    import optax

    if ssm_learning_rate is None:
        base = learning_rate
        ssm_learning_rate = (
            (lambda step: SSM_SHARE * base(step)) if callable(base) else SSM_SHARE * base
        )
    for name, value in (
        ("learning_rate", learning_rate),
        ("ssm_learning_rate", ssm_learning_rate),
        ("weight_decay", weight_decay),
    ):
        if not callable(value) and value < 0:
            raise UsageError(f"{name} must not be negative, got {value}")
    groups = {
        "regular": optax.adamw(learning_rate, weight_decay=weight_decay),
        "ssm": optax.adam(ssm_learning_rate),
        "frozen": optax.set_to_zero(),
    }
    return optax.multi_transform(groups, labels)
