"""Short causal convolutions and token shifts: a memory of the last few inputs, with resets.

Cells that look at their last inputs before the recurrence hold a second state, the window of
these inputs. It has to be dropped at a reset like the first: forgetting that is the commonest
leak of resettable memories.
"""

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.shapes import TB, TBF, Array, Key


def lagged(
    x: TBF, window: Array, reset: TB | None = None, start: Array | None = None
) -> tuple[Array, list[TBF]]:
    """The inputs of 1, ..., w - 1 steps ago, as far as they belong to the same episode.

    `lag_j[t]` is `lag_{j-1}[t-1]` with `lag_0 = x`; where `reset[t]`, it is taken from `start`.

    Args:
        x: `(T, *B, C)`.
        window: `(*B, w - 1, C)`, the inputs before x, the latest one last.
        reset: `(T, *B)` bool, or None for no resets.
        start: `(w - 1, C)`, the window after a reset; zeros if None.

    Returns:
        The window after the last step, and the w - 1 lags, each `(T, *B, C)`.

    Raises:
        UsageError: a window that does not fit x.
    """
    if window.shape[:-2] != x.shape[1:-1] or window.shape[-1] != x.shape[-1]:
        raise UsageError(
            f"the window of inputs x (T, *B, C) {x.shape} must be (*B, w - 1, C); got "
            f"{window.shape}"
        )
    lags, lag, width = [], x, window.shape[-2]
    for j in range(1, width + 1):
        lag = jnp.concatenate([window[..., width - j, :][None], lag[:-1]])
        if reset is not None:
            begin = jnp.zeros_like(x[0]) if start is None else start[width - j]
            lag = jnp.where(reset[..., None], jnp.broadcast_to(begin, x.shape), lag)
        lags.append(lag)
    latest = [z[-1] for z in (x, *lags)][:width]
    return jnp.stack(latest[::-1], axis=-2) if width else window, lags


def short_conv(
    kernel: Array,
    x: TBF,
    window: Array,
    reset: TB | None = None,
    start: Array | None = None,
) -> tuple[Array, TBF]:
    """Every channel convolved with its own kernel: `y[t] = sum_j kernel[w - 1 - j] x[t - j]`.

    Args:
        kernel: `(w, C)`; the last row multiplies the present input.
        x: `(T, *B, C)`.
        window: `(*B, w - 1, C)`, the inputs before x.
        reset: `(T, *B)` bool: nothing from before a reset is read after it.
        start: `(w - 1, C)`, the window after a reset; zeros if None.

    Returns:
        The window after the last step, and y `(T, *B, C)`.

    Raises:
        UsageError: a window that does not fit x or the kernel.
    """
    window, lags = lagged(x, _checked(window, kernel, x), reset, start)
    return window, convolve(kernel, x, lags)


def short_conv_all(
    kernel: Array,
    x: TBF,
    window: Array,
    reset: TB | None = None,
    start: Array | None = None,
) -> tuple[Array, TBF]:
    """`short_conv` with the window after every step, `(T, *B, w - 1, C)`, instead of the last."""
    _, lags = lagged(x, _checked(window, kernel, x), reset, start)
    windows = [x, *lags][: len(lags)][::-1]
    after = jnp.stack(windows, axis=-2) if lags else jnp.stack([window] * x.shape[0])
    return after, convolve(kernel, x, lags)


def _checked(window: Array, kernel: Array, x: TBF) -> Array:
    if kernel.shape != (window.shape[-2] + 1, x.shape[-1]):
        raise UsageError(
            f"a kernel (w, C) for inputs {x.shape} and window {window.shape} must be "
            f"{(window.shape[-2] + 1, x.shape[-1])}; got {kernel.shape}"
        )
    return window


def convolve(kernel: Array, x: TBF, lags: list[TBF]) -> TBF:
    """`short_conv` of x whose lags are known."""
    taps = kernel.reshape(-1, *(1,) * (x.ndim - 1), x.shape[-1])
    y = taps[-1] * x
    for j, lag in enumerate(lags, start=2):
        y = y + taps[-j] * lag
    return y


def conv_init(key: Key, width: int, channels: int) -> Array:
    """A kernel `(width, channels)` for `short_conv`, uniform within 1 / sqrt(width)."""
    bound = width**-0.5
    return jax.random.uniform(key, (width, channels), minval=-bound, maxval=bound)
