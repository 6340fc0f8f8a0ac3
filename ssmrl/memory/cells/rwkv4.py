"""RWKV-4: a decaying softmax average over the past, in the log domain (Peng et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ssmrl.errors import UsageError, unknown
from ssmrl.memory.dense import along_last, matmul
from ssmrl.memory.semigroup import SCANS, semigroup_scan
from ssmrl.memory.spec import Memory, Prepared, Reading, start_carry, where_reset
from ssmrl.shapes import TB, TBF, TBH, Key, PyTree

NOTHING = -1e30  # the log weight of an empty past: finite, so that differences of two are, too


def average(earlier: PyTree, later: PyTree) -> PyTree:
    """Composition of weighted sums over neighbouring spans of time.

    A span is (decay, top, weighted, weight), all `(..., C)`: its log decay; and its sums
    `e^top weighted` of values and `e^top weight` of weights, with `top` the largest exponent
    in it, so that nothing overflows.
    """
    decay1, top1, weighted1, weight1 = earlier
    decay2, top2, weighted2, weight2 = later
    top = jnp.maximum(top1 + decay2, top2)
    old, new = jnp.exp(top1 + decay2 - top), jnp.exp(top2 - top)
    return (
        decay1 + decay2,
        top,
        old * weighted1 + new * weighted2,
        old * weight1 + new * weight2,
    )


@dataclass(frozen=True)
class RWKV4(Memory):
    """`wkv[t] = (num[t-1] + e^(bonus + k) v) / (den[t-1] + e^(bonus + k))`, with
    `num[t] = e^-w num[t-1] + e^k v`, `den[t] = e^-w den[t-1] + e^k` per channel.

    k, v and the gate r read `mu u[t] + (1 - mu) u[t-1]` (token shift), and
    `y = W_o (sigmoid(r) wkv)`. Time mixing only: the block's gated unit mixes the channels.
    The carry is `{"past": (top, weighted, weight), "last": u[t-1]}`, each `(*B, H)` float32.

    Attributes:
        features: H, width of input, state and output.
        scan: backend of `semigroup_scan`.

    Raises:
        UsageError: an unknown scan, or an input that is not H wide.
    """

    features: int = 64
    scan: str = "auto"

    ssm_params: ClassVar[tuple[str, ...]] = ("log_w", "bonus")
    capabilities: ClassVar[frozenset[str]] = frozenset({"selective"})

    def __post_init__(self) -> None:
        if self.scan not in SCANS:
            raise unknown("scan backend", self.scan, SCANS)

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Half-lives log-spaced from 1 to 1000 steps over the channels, bonus in zigzag."""
        h = self.features
        if in_dim != h:
            raise UsageError(
                f"RWKV-4 mixes its input with the last one channel by channel, both are "
                f"features={h} wide; got in_dim={in_dim}. Project the input first, as "
                "ssmrl.memory.make and ssmrl.memory.Stack do"
            )
        lecun = jax.nn.initializers.lecun_normal()
        key_in, key_out = jax.random.split(key)
        ramp = jnp.linspace(0.0, 1.0, h)
        half_life = 10.0 ** (3 * ramp)
        return {
            "log_w": jnp.log(jnp.log(2.0) / half_life),
            "bonus": 0.5 * ((jnp.arange(h) + 1) % 3 - 1).astype(jnp.float32) + jnp.log(0.3),
            "mu": jnp.stack([ramp**0.5, ramp, 0.3 + 0.7 * ramp]),  # of r, k, v
            "input": jnp.stack([lecun(k, (h, h)) for k in jax.random.split(key_in, 3)]),
            "output": lecun(key_out, (h, h)),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> PyTree:
        zero = jnp.zeros((*batch_shape, self.features))
        return {"past": (jnp.full_like(zero, NOTHING), zero, zero), "last": zero}

    def prepare(self, params: PyTree) -> Prepared:
        """Both taps of the token shift as one matrix product each for r, k and v."""
        now = params["mu"][:, :, None] * params["input"]
        return Prepared(
            {
                "now": jnp.concatenate(list(now), axis=1),  # (H, 3H)
                "last": jnp.concatenate(list(params["input"] - now), axis=1),
                "decay": -jnp.exp(params["log_w"]),
                "bonus": params["bonus"],
                "output": params["output"],
            }
        )

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        start = start_carry(self, u.shape[1:-1], reading.start)
        last = before(u, carry["last"], start["last"], reading.reset)
        r, k, v = jnp.split(
            matmul(u, constants["now"]) + matmul(last, constants["last"]), 3, axis=-1
        )
        decay = along_last(constants["decay"], u)
        elements = (jnp.broadcast_to(decay, u.shape), k, v, jnp.ones_like(k))
        zero = jnp.zeros_like(carry["last"])
        states = semigroup_scan(
            average,
            elements,
            (zero, *carry["past"]),
            reset=reading.reset,
            start=(zero, *start["past"]),
            backend=self.scan,
        )[1:]
        past = before(states, carry["past"], start["past"], reading.reset)
        no_time, one = jnp.zeros_like(k), jnp.ones_like(k)
        now = (no_time, k + along_last(constants["bonus"], u), v, one)
        _, _, weighted, weight = average((no_time, *past), now)
        y = matmul(jax.nn.sigmoid(r) * weighted / weight, constants["output"])
        return {"past": jax.tree.map(lambda x: x[-1], states), "last": u[-1]}, y


def before(x: PyTree, first: PyTree, start: PyTree, reset: TB | None) -> PyTree:
    """`x[t-1]` at t, `first` at 0 and `start` at resets; x `(T, *B, ...)`."""
    past = jax.tree.map(lambda f, x: jnp.concatenate([f[None], x[:-1]]), first, x)
    if reset is None:
        return past
    fresh = jax.tree.map(lambda s, x: jnp.broadcast_to(s[None], x.shape), start, x)
    return where_reset(reset, fresh, past)
