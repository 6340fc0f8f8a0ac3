"""RWKV-5 and RWKV-6: matrix memories with a bonus for the present input (Peng et al. 2024)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.memory.blocks import layer_norm
from ssmrl.memory.cells.outer import OuterMemory, by_head, spread_rates
from ssmrl.memory.dense import along_last, matmul
from ssmrl.shapes import TBF, TBH, Array, Key, PyTree


@dataclass(frozen=True)
class RWKV5(OuterMemory):
    """`y[t] = r (S[t-1] + bonus k v^T)`, `S[t] = exp(-exp(omega)) S[t-1] + k v^T`.

    The time mixing of RWKV-5, Eagle: r, k, v and the gate g are linear maps of
    `u[t] + mu (u[t-1] - u[t])`, each with its own mu; every key has its own constant decay. Its
    channel mixing is left to the block around the cell. The carry is the pair of the last input
    `(*B, 1, H)` and S `(*B, heads, K, V)`.

    Attributes:
        features: H, width of input and output; a multiple of `2 * heads`.
        heads: matrices, K = V = H / heads.
    """

    held: ClassVar[str] = "u"
    taps: ClassVar[int] = 2
    mixes: ClassVar[str] = "rkvg"
    ssm_params: ClassVar[tuple[str, ...]] = ("omega", "bonus")
    capabilities: ClassVar[frozenset[str]] = frozenset({"matrix_state"})
    block: ClassVar[dict[str, Any]] = {"activation": "full_glu"}

    @property
    def widths(self) -> dict[str, int]:
        return {"u": self.features}

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Half-lives from 1 to 1000 steps over the keys of each head, mixes from 1 down to 0."""
        key, key_maps = jax.random.split(key)
        h, lecun = self.features, jax.nn.initializers.lecun_normal()
        keys = jax.random.split(key_maps, 4)
        channel = np.arange(h) / max(h - 1, 1)
        rates = spread_rates(h, 1.0, 1000.0)
        return {
            "mu": jnp.asarray(np.tile(1 - channel, (len(self.mixes), 1)), jnp.float32),
            "maps": {name: lecun(k, (h, h)) for name, k in zip("rkvg", keys, strict=True)},
            "omega": by_head(jnp.log(rates), self.heads).T.reshape(-1),
            "bonus": jnp.asarray(0.5 * (1 - channel) + 0.1 * (np.arange(h) % 3 - 1), jnp.float32),
            "out": super().init(key, in_dim)["out"],
        }

    def project(self, params: PyTree, u: TBF) -> dict[str, Array]:
        return {"u": u}

    def mix(self, params: PyTree, u: TBF, change: TBF) -> dict[str, TBF]:
        """The mixtures of this and the last input that the linear maps read."""
        mu = [along_last(m, u) for m in params["mu"]]
        return {name: u + change * m for name, m in zip(self.mixes, mu, strict=True)}

    def log_decay(self, params: PyTree, mixed: dict[str, TBF]) -> TBF:
        """Logarithms of the decay of every key, `(..., H)`."""
        return jnp.broadcast_to(along_last(-jnp.exp(params["omega"]), mixed["r"]), mixed["r"].shape)

    def terms(
        self, params: PyTree, x: dict[str, Array], lags: list[TBF]
    ) -> tuple[dict[str, Any], PyTree]:
        mixed = self.mix(params, x["u"], lags[0] - x["u"])
        r, k, v, g = (matmul(mixed[name], params["maps"][name]) for name in "rkvg")
        q, k, v, log_a = (by_head(z, self.heads) for z in (r, k, v, self.log_decay(params, mixed)))
        bonus = by_head(params["bonus"], self.heads)
        return {"q": q, "k": k, "v": v, "log_a": log_a, "bonus": bonus}, g

    def readout(self, params: PyTree, o: Array, g: PyTree) -> TBH:
        o = layer_norm(o, 1e-5).reshape(*o.shape[:-2], -1)
        return matmul(o * jax.nn.silu(g), params["out"])


@dataclass(frozen=True)
class RWKV6(RWKV5):
    """RWKV-5 whose mixes and decays depend on the input.

    RWKV-6, Finch: the mix of each of r, k, v, w, g is `mu + tanh((u + mu_x (u' - u)) A) B` with u'
    the last input, and the decay of every key `exp(-exp(omega + tanh(w A_w) B_w))`. Carry as
    `RWKV5`.

    Attributes:
        features: H, width of input and output; a multiple of `2 * heads`.
        heads: matrices, K = V = H / heads.
    """

    mixes: ClassVar[str] = "rkvgw"
    rank: ClassVar[int] = 16
    capabilities: ClassVar[frozenset[str]] = frozenset({"selective", "matrix_state"})

    def init(self, key: Key, in_dim: int) -> PyTree:
        key, key_mix, key_decay = jax.random.split(key, 3)
        h, rank, n = self.features, self.rank, len(self.mixes)
        small = jax.nn.initializers.uniform(2e-2)
        lecun = jax.nn.initializers.lecun_normal()
        return super().init(key, in_dim) | {
            "mu_x": jnp.full((h,), 0.5),
            "mix_down": lecun(key_mix, (h, n * rank)),
            "mix_up": small(key_mix, (n, rank, h)),
            "decay_down": lecun(key_decay, (h, rank)),
            "decay_up": small(key_decay, (rank, h)),
        }

    def mix(self, params: PyTree, u: TBF, change: TBF) -> dict[str, TBF]:
        first = u + change * along_last(params["mu_x"], u)
        low = jnp.split(jnp.tanh(matmul(first, params["mix_down"])), len(self.mixes), axis=-1)
        return {
            name: u + change * (along_last(mu, u) + matmul(z, up))
            for name, mu, z, up in zip(self.mixes, params["mu"], low, params["mix_up"], strict=True)
        }

    def log_decay(self, params: PyTree, mixed: dict[str, TBF]) -> TBF:
        x = matmul(jnp.tanh(matmul(mixed["w"], params["decay_down"])), params["decay_up"])
        return -jnp.exp(along_last(params["omega"], x) + x)
