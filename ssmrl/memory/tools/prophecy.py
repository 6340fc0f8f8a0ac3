"""HiPPO-Prophecy: predicting the next input from a frozen memory (Joseph et al. 2024)."""

import numpy as np

from ssmrl.errors import UsageError
from ssmrl.memory import hippo

BURN_IN = 3  # windows read before a prediction counts


def prophecy_readout(
    state: int,
    window: int,
    *,
    measure: str = "legt",
    cycles: float = 2.0,
    ahead: int = 1,
    signals: int = 256,
    ridge: float = 1e-8,
    seed: int = 0,
) -> np.ndarray:
    """w with `w . x[t]` close to `u[t + ahead]` for every smooth u, without training on any.

    "HiPPO-Prophecy: State-Space Models can Provably Learn Dynamical Systems in Context" (Joseph
    et al. 2024) reads the derivative at the end of the window off the polynomials, which
    amplifies the error of discretisation; here ridge regression on random band-limited
    signals, seen through the same steps.

    Args:
        state: N, coefficients, as in `HippoLegT(state=...)`.
        window: steps remembered.
        measure: a key of `hippo.WINDOWS`.
        cycles: the fastest frequency of the signals, per window.
        ahead: steps to predict.
        signals: how many to fit to.
        ridge: penalty on w^2, relative to the mean square of the states.
        seed: of the signals.

    Returns:
        `(state,)` float64.

    Raises:
        UsageError: a number below its least value.
    """
    if min(state, window, ahead, signals) < 1 or cycles <= 0:
        raise UsageError(
            "prophecy_readout needs state, window, ahead, signals >= 1 and cycles > 0; got "
            f"{state}, {window}, {ahead}, {signals} and {cycles}"
        )
    rng = np.random.default_rng(seed)
    steps = (BURN_IN + 2) * window
    t = np.arange(steps + ahead)[:, None, None]
    frequency = rng.uniform(0, cycles / window, (1, signals, 4))
    phase = rng.uniform(0, 2 * np.pi, (1, signals, 4))
    u = np.sum(rng.normal(size=(1, signals, 4)) * np.cos(2 * np.pi * frequency * t + phase), -1)
    x = window_states(u[:steps], state, window, measure)[BURN_IN * window :]
    target = u[BURN_IN * window + ahead :]
    x, target = x.reshape(-1, state), target.reshape(-1)
    gram = x.T @ x
    return np.linalg.solve(gram + ridge * np.trace(gram) / state * np.eye(state), x.T @ target)


def window_states(u: np.ndarray, state: int, window: int, measure: str = "legt") -> np.ndarray:
    """Coefficients `(T, ..., state)` of u `(T, ...)` as a HiPPO window memory has them, float64."""
    step = hippo.windowed_steps(measure, state, window)
    x, states = np.zeros((*u.shape[1:], state)), []
    for u_t in u:
        x = x @ step.a.T + u_t[..., None] * step.b
        states.append(x)
    return np.stack(states)
