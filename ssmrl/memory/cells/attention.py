"""Softmax attention over the last inputs of an episode, and over a chosen few of them.

The window slides. The parallel form cuts time into blocks as long as the window, so that each
block of queries needs the keys of its own block and of the one before: the cost grows with T
times the window.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.dense import dense, dense_init
from ssmrl.memory.spec import Memory, Reading, cell_scan, start_carry, where_reset
from ssmrl.shapes import BH, TB, TBF, TBH, Array, B, Key, PyTree

HIDDEN = -1e30  # the logit of what may not be seen


class Window(NamedTuple):
    """The last inputs of an episode, oldest first.

    Attributes:
        keys, values: `(*B, window - 1, H)` float32.
        valid: `(*B,)` int32, how many of them, the latest ones, there are.
    """

    keys: Array
    values: Array
    valid: B


@dataclass(frozen=True)
class WindowAttention(Memory):
    """`y[t] = W_o sum_j softmax_j(q[t] k[j] / sqrt(d) + bias[t - j]) v[j]`, t - window < j <= t,
    over the inputs of the same episode (Vaswani et al. 2017; sliding as in Beltagy et al. 2020).

    Per head, one learned bias for each distance is the only notion of position. The carry is
    a `Window`.

    Attributes:
        features: H, width of the output; a multiple of `heads`.
        heads: attention heads.
        window: inputs seen at a time, the current one included.

    Raises:
        UsageError: an option out of range.
    """

    features: int = 64
    heads: int = 4
    window: int = 32

    def __post_init__(self) -> None:
        if self.heads < 1 or self.window < 2 or self.features % self.heads:
            raise UsageError(
                "attention needs a window of at least 2 and features that are a multiple of "
                f"heads >= 1; got window={self.window}, features={self.features}, "
                f"heads={self.heads}"
            )

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        key_in, key_out = jax.random.split(key)
        return {
            "input": dense_init(key_in, in_dim, 3 * self.features),
            "output": dense_init(key_out, self.features, self.features),
            "bias": jnp.zeros((self.heads, self.window)),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> Window:
        zero = jnp.zeros((*batch_shape, self.window - 1, self.features))
        return Window(zero, zero, jnp.zeros(batch_shape, jnp.int32))

    def read(
        self, constants: PyTree, carry: Window, u: TBF, reading: Reading
    ) -> tuple[Window, TBH]:
        return self.attend(constants, carry, u, reading, None)

    def attend(
        self, constants: PyTree, carry: Window, u: TBF, reading: Reading, active: TB | None
    ) -> tuple[Window, TBH]:
        """`read`, for the steps that are `active` `(T, *B)` alone: the others are neither
        remembered nor answered (zeros). None for all of them."""
        q, k, v = jnp.split(dense(constants["input"], u), 3, axis=-1)
        if u.shape[0] > 1 and reading.start is None:
            carry, y = self._attend_blocks(
                constants["bias"], carry, (q, k, v), reading.reset, active
            )
        else:
            start = start_carry(self, u.shape[1:-1], reading.start)

            def step(window: Window, inputs: Any) -> tuple[Window, BH]:
                return self._attend_once(constants["bias"], window, *inputs)

            inputs = (q, k, v, active)
            carry, y = cell_scan(step, carry, inputs, reading.reset, start)
        y = dense(constants["output"], y)
        return carry, y if active is None else jnp.where(active[..., None], y, 0.0)

    def _attend_once(
        self, bias: Array, window: Window, q: BH, k: BH, v: BH, active: B | None
    ) -> tuple[Window, BH]:
        """One step: the current input joins the window, and the oldest one leaves it."""
        keys = jnp.concatenate([window.keys, k[..., None, :]], axis=-2)
        values = jnp.concatenate([window.values, v[..., None, :]], axis=-2)
        steps_ago = jnp.arange(self.window, dtype=jnp.int32)[::-1]
        logits = jnp.einsum("...hd,...whd->...hw", self._heads(q), self._heads(keys))
        logits = logits * self._scale + _over(bias[:, ::-1], logits)
        seen = _over(steps_ago, keys[..., 0]) <= window.valid[..., None]
        weights = jax.nn.softmax(jnp.where(seen[..., None, :], logits, HIDDEN), axis=-1)
        y = jnp.einsum("...hw,...whd->...hd", weights, self._heads(values)).reshape(q.shape)
        valid = jnp.minimum(window.valid + 1, self.window - 1)
        after = Window(keys[..., 1:, :], values[..., 1:, :], valid)
        return (after if active is None else where_reset(active, after, window)), y

    def _attend_blocks(
        self,
        bias: Array,
        window: Window,
        qkv: tuple[TBH, TBH, TBH],
        reset: TB | None,
        active: TB | None,
    ) -> tuple[Window, TBH]:
        """All steps at once. Inactive steps are moved behind the active ones, and back."""
        steps, *batch, _ = qkv[0].shape
        q, k, v = (x.reshape(steps, -1, self.features) for x in qkv)
        none = jnp.zeros((steps, q.shape[1]), jnp.int32)
        episode = none if reset is None else jnp.cumsum(reset.reshape(none.shape), 0, jnp.int32)
        last, rank = episode[-1], None
        length = none[0] + steps
        if active is not None:
            active = active.reshape(none.shape)
            order = jnp.argsort(~active, axis=0, stable=True)
            episode = jnp.take_along_axis(episode, order, axis=0)
            q, k, v = (jnp.take_along_axis(x, order[..., None], axis=0) for x in (q, k, v))
            count = jnp.cumsum(active, 0, jnp.int32)
            rank, length = jnp.maximum(count - 1, 0), count[-1]

        def behind(past: Array, x: TBH) -> TBH:  # the window, then the steps, time first
            return jnp.concatenate([jnp.moveaxis(past.reshape(-1, *past.shape[-2:]), 1, 0), x])

        k, v = behind(window.keys, k), behind(window.values, v)
        ago = jnp.arange(self.window - 1, 0, -1, dtype=jnp.int32)
        there = jnp.where(ago[:, None] <= window.valid.reshape(1, -1), 0, -1)
        episodes = jnp.concatenate([there, episode])
        y = self._banded(bias, q, k, v, episode, episodes)
        if rank is not None:
            y = jnp.take_along_axis(y, rank[..., None], axis=0)

        at = length[None] + jnp.arange(self.window - 1, dtype=jnp.int32)[:, None]
        at_end = jnp.take_along_axis(episodes, at, axis=0)
        kept = (at_end == last[None]) | (at_end + last[None] == -1)  # or empty and never reset

        def rest(x: TBH) -> Array:
            x = jnp.where(kept[..., None], jnp.take_along_axis(x, at[..., None], axis=0), 0.0)
            return jnp.moveaxis(x, 0, 1).reshape(*batch, *x.shape[::2])

        valid = jnp.sum(at_end == last[None], axis=0, dtype=jnp.int32).reshape(batch)
        return Window(rest(k), rest(v), valid), y.reshape(steps, *batch, self.features)

    def _banded(self, bias: Array, q: TBH, k: TBH, v: TBH, episode: TB, episodes: TB) -> TBH:
        """Attention of q `(T, N, H)` to k and v `(window - 1 + T, N, H)` that start a window
        earlier, within the window and where the episodes (T, N) and (window - 1 + T, N) agree.
        """
        steps, n = q.shape[:2]
        size = min(steps, self.window)
        blocks = -(-steps // size)
        width = self.window - 1 + size
        q, k, v, episode, episodes = (
            jnp.pad(x, ((0, blocks * size - steps), *((0, 0),) * (x.ndim - 1)))
            for x in (q, k, v, episode, episodes)
        )
        rows = jnp.arange(blocks)[:, None] * size + jnp.arange(width)[None]
        # What is hidden must stay so if it is not a number: 0 * nan is one that leaks.
        bad = ~jnp.all(jnp.isfinite(v), axis=-1)
        v = jnp.where(bad[..., None], 0.0, v)
        q = self._heads(q.reshape(blocks, size, n, -1))
        logits = jnp.einsum("lqnhd,lknhd->nhlqk", q, self._heads(k[rows])) * self._scale
        logits = jnp.where(jnp.moveaxis(bad[rows], 2, 0)[:, None, :, None], jnp.nan, logits)
        ago = self.window - 1 + jnp.arange(size)[:, None] - jnp.arange(width)[None]
        near = (ago >= 0) & (ago < self.window)
        logits = logits + jnp.asarray(bias)[:, jnp.clip(ago, 0, self.window - 1)][None, :, None]
        episode = episode.reshape(blocks, size, n)
        same = episode[:, :, None] == episodes[rows][:, None]  # (blocks, size, width, N)
        seen = jnp.moveaxis(same & near[None, :, :, None], 3, 0)[:, None]
        weights = jax.nn.softmax(jnp.where(seen, logits, HIDDEN), axis=-1)
        y = jnp.einsum("nhlqk,lknhd->lqnhd", weights, self._heads(v[rows]))
        return y.reshape(blocks * size, n, self.features)[:steps]

    def _heads(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.heads, -1)

    @property
    def _scale(self) -> float:
        return float((self.features // self.heads) ** -0.5)


def _over(x: Array, like: Array) -> Array:
    """x with leading axes of size 1 up to the rank of `like`."""
    return x.reshape((1,) * (like.ndim - x.ndim) + x.shape)
