"""Outer-product memories: a matrix per head that keys write to and queries read.

    S[t] = a[t] S[t-1] + k[t] v[t]^T        o[t] = q[t] S[t]

Evaluated chunk by chunk, as matrix products (Yang et al. 2024, "Gated linear attention
transformers with hardware-efficient training"; the chunked dual of Mamba-2, Dao and Gu 2024).
Within a chunk output i is a sum over steps j <= i of the same episode, weighted by `q_i k_j` and
the decay between them; what came before enters through the state at the chunk's start. Those
states obey an affine recurrence over chunks. No `(T, B, K, V)` array is ever held, one state per
chunk is.

With `beta` a write is a step of the delta rule, which takes what the key already stores off the
value first; within a chunk that is a triangular system (the WY form of Yang et al. 2024,
"Parallelizing linear transformers with the delta rule over sequence length").
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError
from ssmrl.memory.scan import affine_scan
from ssmrl.shapes import TB, Array

CHUNK = 16  # steps; also the most for decays of each key, see `_weights`
FASTEST = -5.0  # logarithm of the fastest decay per step where every key has its own
FASTEST_SHARED = -20.0  # the same for decays shared by all keys: keeps their sums exact


class Steps(NamedTuple):
    """What happens at each step, `(T, B, heads, width)`; in chunks `(N, B, heads, C, width)`."""

    q: Array  # width K
    k: Array  # width K
    v: Array  # width V
    log_a: Array  # width K, or 1 if all keys share a decay
    beta: Array | None  # width 1
    phase: Array | None  # width K


class Episodes(NamedTuple):
    """Where episodes begin and end within chunks of C steps."""

    within: Array  # (N, B, 1, C, C): j <= i, both in one episode
    ongoing: Array  # (N, B, 1, C, 1): the episode began before the chunk
    final: Array  # (N, B, 1, C, 1): the episode goes on after the chunk
    cut: Array | None  # (N, B): another episode at the end than at the beginning
    begin: Array | None  # (B, heads, K, V) the state after a reset, None for zeros


def linear_attention(
    q: Array,
    k: Array,
    v: Array,
    log_a: Array | None = None,
    state: Array | None = None,
    *,
    phase: Array | None = None,
    beta: Array | None = None,
    bonus: Array | None = None,
    reset: TB | None = None,
    start: Array | None = None,
    chunk: int = CHUNK,
) -> tuple[Array, Array]:
    """The states `S[t] = a[t] S[t-1] + k[t] v[t]^T` read by q, without holding them all.

    Args:
        q: `(T, *B, heads, K)` float32, or complex64 together with `phase`.
        k: `(T, *B, heads, K)` like q.
        v: `(T, *B, heads, V)` float32.
        log_a: logarithm of the decay, `(T, *B, heads)` if it is shared by all keys and
            `(T, *B, heads, K)` if every key has its own; None for no decay. It is raised to at
            least -5 per step for own decays (0.7 % is kept) and to -20 for shared ones.
        state: `(*B, heads, K, V)` before the first step, complex64 with `phase`; zeros if None.
        phase: `(T, *B, heads, K)`: the decay is `exp(log_a + i phase)`.
        beta: `(T, *B, heads)`: the delta rule `S[t] = a S[t-1] + beta k (v - k a S[t-1])^T`;
            for |k| = 1 its eigenvalue along k is `a (1 - beta)`. Without phase.
        bonus: `(heads, K)`: reads `S[t-1] + bonus k[t] v[t]^T` instead of S[t] (RWKV). Without
            phase or beta.
        reset: `(T, *B)` bool, True where what came before is dropped.
        start: `(heads, K, V)`, the state after a reset; zeros if None.
        chunk: steps per chunk, at most 16 for decays of each key.

    Returns:
        The last state, and `Re(q[t] S[t])` `(T, *B, heads, V)` float32. Values that are not
        finite make the rest of their episode NaN, and nothing beyond it.

    Raises:
        UsageError: a chunk out of range; more than one of phase, beta and bonus; complex q
            or k without phase.
    """
    own = log_a is not None and log_a.ndim == q.ndim
    _check(q, k, own, (phase, beta, bonus), chunk)
    time, shape = len(q), (*q.shape[1:], v.shape[-1])
    steps = _steps(q, k, v, log_a, beta, phase)
    dtype = jnp.float32 if phase is None else jnp.complex64
    h = (jnp.zeros(shape, dtype) if state is None else state).reshape(-1, *shape[-3:])
    begin = None if start is None else jnp.broadcast_to(start.astype(dtype), h.shape)
    reset = None if reset is None else reset.reshape(time, -1)
    if time == 1:
        h, o = _one_step(steps, h, bonus, reset, begin)
    else:
        steps, h, spoiled = _quarantined(steps, h, reset)
        h, o = _chunked(steps, h, bonus, reset, begin, min(chunk, time))
        o = jnp.where(spoiled, jnp.nan, o)
        h = jnp.where(spoiled[-1, ..., None], jnp.nan, h)
    return h.reshape(shape), o.reshape(v.shape)


def _check(q: Array, k: Array, own: bool, kinds: tuple[Array | None, ...], chunk: int) -> None:
    if chunk < 1 or (own and chunk > CHUNK):
        raise UsageError(
            f"linear_attention needs 1 <= chunk <= {CHUNK} with a decay for each key and "
            f"chunk >= 1 otherwise; got chunk={chunk}"
        )
    if sum(x is not None for x in kinds) > 1:
        raise UsageError("linear_attention takes one of phase, beta and bonus, got several")
    if kinds[0] is None and (jnp.iscomplexobj(q) or jnp.iscomplexobj(k)):
        raise UsageError("complex q or k need a phase: pass zeros if there is none")


def _steps(
    q: Array, k: Array, v: Array, log_a: Array | None, beta: Array | None, phase: Array | None
) -> Steps:
    """`(T, B, heads, width)` each, decays within their range."""
    log_a = jnp.zeros(q.shape[:-1]) if log_a is None else log_a
    own = log_a.ndim == q.ndim
    log_a = jnp.maximum(log_a, FASTEST) if own else jnp.maximum(log_a, FASTEST_SHARED)[..., None]
    steps = Steps(q, k, v, log_a, None if beta is None else beta[..., None], phase)
    return jax.tree.map(lambda x: x.reshape(len(q), -1, *x.shape[-2:]), steps)


def _one_step(
    steps: Steps, h: Array, bonus: Array | None, reset: TB | None, begin: Array | None
) -> tuple[Array, Array]:
    """The recurrence itself, for T = 1."""
    q, k, a = (x[0, ..., None] for x in (steps.q, steps.k, jnp.exp(steps.log_a)))
    v = steps.v[0, :, :, None, :]
    if reset is not None:
        h = jnp.where(reset[0, :, None, None, None], 0 if begin is None else begin, h)
    if steps.phase is not None:
        a, q, k, v = (x.astype(h.dtype) for x in (a, q, k, v))
        a = a * _cis(steps.phase[0, ..., None])
    before, h = h, a * h
    if steps.beta is not None:
        v = steps.beta[0, ..., None] * (v - jnp.sum(k * h, axis=-2, keepdims=True))
    write = k * v
    h = h + write
    seen = h if bonus is None else before + bonus[None, ..., None] * write
    return h, jnp.sum(q * seen, axis=-2).real[None]


def _quarantined(steps: Steps, h: Array, reset: TB | None) -> tuple[Steps, Array, Array]:
    """Steps and state with zeros where they are not finite, and which outputs that spoils.

    A matrix product spreads a NaN to all rows, through weights of zero too; so it is taken out
    first and put back into the outputs of its own episode, `(T, B, heads, 1)`.
    """
    sizes = [jnp.sum(jnp.abs(x), axis=-1, keepdims=True) for x in steps if x is not None]
    good = jnp.isfinite(sum(sizes))
    clean = jax.tree.map(lambda x: jnp.where(good, x, 0), steps)
    sound = jnp.all(jnp.isfinite(h), axis=(-2, -1), keepdims=True)
    carried = ~sound[..., 0]
    if reset is not None:
        carried &= ~reset[0, :, None, None]
    bad = (~good).at[0].set(~good[0] | carried).astype(jnp.int32)
    count = jnp.cumsum(bad, axis=0)
    if reset is not None:  # forget those counted before the episode
        count -= jax.lax.cummax(jnp.where(reset[..., None, None], count - bad, 0), axis=0)
    return clean, jnp.where(sound, h, 0), count > 0


def _chunked(
    steps: Steps,
    h: Array,
    bonus: Array | None,
    reset: TB | None,
    begin: Array | None,
    chunk: int,
) -> tuple[Array, Array]:
    """Last state and outputs, from all chunks at once but for the recurrence over them."""
    time = steps.v.shape[0]

    def split(x: Array) -> Array:  # padding at the end: nothing written, nothing decayed
        x = jnp.pad(x, ((0, -time % chunk), *((0, 0),) * 3)).reshape(-1, chunk, *x.shape[1:])
        return jnp.transpose(x, (0, 2, 3, 1, 4))

    q, k, v, log_a, beta, phase = jax.tree.map(split, steps)
    e = _episodes(None if reset is None else split(reset[..., None, None]), chunk, begin)
    total = _sums(e.within, log_a)  # logarithm of the decay since episode or chunk began
    fade = _swap(jnp.exp(total[..., -1:, :]))  # of the whole chunk, (N, B, heads, K or 1, 1)
    turn = None
    if phase is not None:
        q, k, turn = _rotated(q, k, _sums(e.within, phase))
        total = total if total.shape[-1] == 1 else jnp.concatenate([total, total], axis=-1)
    rest = jnp.where(e.final, total[..., -1:, :] - total, 0)
    write = jnp.where(e.final, k * jnp.exp(rest), 0)

    if beta is not None:
        h, before, v = _delta(k, v, beta, total, write, fade, h, e)
    else:
        written = _swap(write) @ v
        if turn is not None:
            fade, written = fade.astype(turn.dtype) * turn, turn * _as_complex(written)
        after = affine_scan(fade, written, h, reset=e.cut, reset_to=begin)
        before, h = jnp.concatenate([h[None], after[:-1]]), after[-1]
    upto, seen = (total, e.within) if bonus is None else (total - log_a, jnp.tril(e.within, -1))
    o = _weights(q, k, upto, total, seen) @ v + _from_before(q * jnp.exp(upto), before, e)
    if bonus is not None:
        o += jnp.sum(q * k * bonus[None, None, :, None], axis=-1, keepdims=True) * v
    return h, jnp.transpose(o, (0, 3, 1, 2, 4)).reshape(-1, *steps.v.shape[1:])[:time]


def _episodes(reset: Array | None, chunk: int, begin: Array | None) -> Episodes:
    if reset is None:
        number = jnp.zeros((1, 1, 1, chunk, 1), jnp.int32)
    else:
        number = jnp.cumsum(reset.astype(jnp.int32), axis=-2)
    ongoing = number == 0
    return Episodes(
        within=jnp.tril(number == _swap(number)),
        ongoing=ongoing,
        final=number == number[..., -1:, :],
        cut=None if reset is None else ~ongoing[:, :, 0, -1, 0],
        begin=begin,
    )


def _delta(
    k: Array,
    v: Array,
    beta: Array,
    total: Array,
    write: Array,
    fade: Array,
    h: Array,
    e: Episodes,
) -> tuple[Array, Array, Array]:
    """Last state, state before each chunk, and the values that are written after all.

    Those are `d_i = beta_i (v_i - (what k_i reads before step i))`. Their triangular system is
    solved for both parts of the right side: the known one, and the one times the chunk's state.
    """
    system = beta * jnp.tril(_weights(k, k, total, total, e.within), -1)
    solve = _inverse(system.reshape(-1, *system.shape[-2:])).reshape(system.shape)
    keys, known = beta * jnp.exp(total) * k, beta * v
    if e.begin is not None:
        known -= jnp.where(e.ongoing, 0, keys @ e.begin[None])
    sides = jnp.concatenate([known, jnp.where(e.ongoing, keys, 0)], axis=-1)
    known, keys = jnp.split(solve @ sides, [v.shape[-1]], axis=-1)
    begin = jnp.zeros_like(h) if e.begin is None else e.begin

    def step(h: Array, at: Any) -> tuple[Array, tuple[Array, Array]]:
        known, keys, write, fade, cut = at
        d = known - keys @ h
        kept = h if cut is None else jnp.where(cut[:, None, None, None], begin, h)
        return fade * kept + _swap(write) @ d, (h, d)

    h, (before, d) = jax.lax.scan(step, h, (known, keys, write, fade, e.cut))
    return h, before, d


@jax.custom_vjp
def _inverse(lower: Array) -> Array:
    """`(I + lower)^-1` for strictly lower triangular matrices `(..., n, n)`, by products alone.

    From the inverses of the two halves; up to n = 4 by the series, which ends there. As stable
    as substitution, and many small matrices at once are faster this way than by LAPACK.
    """
    n = lower.shape[-1]
    if n <= 4:
        eye = jnp.broadcast_to(jnp.eye(n), lower.shape)
        return (eye - lower) @ (eye + lower @ lower)
    half = n // 2
    first, then = _inverse(lower[..., :half, :half]), _inverse(lower[..., half:, half:])
    below = -(then @ lower[..., half:, :half] @ first)
    upper = jnp.pad(first, (*((0, 0),) * (lower.ndim - 1), (0, n - half)))
    return jnp.concatenate([upper, jnp.concatenate([below, then], axis=-1)], axis=-2)


def _inverse_forward(lower: Array) -> tuple[Array, Array]:
    x = _inverse(lower)
    return x, x


def _inverse_backward(x: Array, g: Array) -> tuple[Array]:
    return (-jnp.tril(_swap(x) @ g @ _swap(x), -1),)


_inverse.defvjp(_inverse_forward, _inverse_backward)


def _from_before(rows: Array, before: Array, e: Episodes) -> Array:
    """What `rows` (decayed) read of the state before the chunk, or of the one after a reset."""
    new = 0 if e.begin is None else rows @ _as_real(e.begin)[None]
    return jnp.where(e.ongoing, rows @ _as_real(before), new)


def _weights(x: Array, y: Array, log_x: Array, log_y: Array, mask: Array) -> Array:
    """`sum_k x[i, k] y[j, k] exp(log_x[i, k] - log_y[j, k])` where mask[i, j], else 0.

    Logarithms of each key: the exponential is a product of two, taken relative to the middle
    of the range they can have, so that neither overflows: e^40 at most for 16 steps of -5. (Not
    of the range they do have, in which other episodes of the chunk take part.)
    Shared ones: exponentials of differences, which never exceed 1.
    """
    if log_x.shape[-1] == 1:
        ratio = jnp.exp(jnp.where(mask, log_x - _swap(log_y), 0))
        return jnp.where(mask, (x @ _swap(y)) * ratio, 0)
    middle = FASTEST * x.shape[-2] / 2
    x, y = x * jnp.exp(log_x - middle), y * jnp.exp(middle - log_y)
    return jnp.where(mask, x @ _swap(y), 0)


def _rotated(q: Array, k: Array, angle: Array) -> tuple[Array, Array, Array]:
    """q and k turned by the sum of phases up to their step, as real vectors of width 2 K.

    `Re(q_i k_j exp(i (angle_i - angle_j)))` is their scalar product. The third result is the
    turn of a whole chunk, `(N, B, heads, K, 1)` complex64.
    """
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    row = [q.real * cos - q.imag * sin, -q.real * sin - q.imag * cos]
    column = [k.real * cos + k.imag * sin, k.imag * cos - k.real * sin]
    turn = _swap(jax.lax.complex(cos[..., -1:, :], sin[..., -1:, :]))
    return jnp.concatenate(row, axis=-1), jnp.concatenate(column, axis=-1), turn


def _cis(angle: Array) -> Array:
    return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))


def _as_real(h: Array) -> Array:
    """Complex states `(..., K, V)` as real ones `(..., 2 K, V)`; real ones as they are."""
    return jnp.concatenate([h.real, h.imag], axis=-2) if jnp.iscomplexobj(h) else h


def _as_complex(h: Array) -> Array:
    return jax.lax.complex(*jnp.split(h, 2, axis=-2))


def _sums(mask: Array, x: Array) -> Array:
    """`sum_j mask[i, j] x[j]`, in full float32 precision on every device."""
    return jnp.matmul(mask.astype(x.dtype), x, precision="highest")


def _swap(x: Array) -> Array:
    return jnp.swapaxes(x, -1, -2)
