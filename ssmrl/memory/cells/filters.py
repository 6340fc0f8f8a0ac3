"""Exact Bayesian filters as memories: the best that any memory can know of a given model.

They are oracles for experiments whose hidden process is known, and learnable memories like any
other where it is not. `given` makes the parameters of a known model. A carry holds the
difference from the prior, so that zeros are the prior, whatever the parameters are.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.memory.dense import along_last, matmul
from ssmrl.memory.spec import CellMemory, Prepared
from ssmrl.shapes import BF, BH, TBF, Array, Key, PyTree

SMALLEST = 1e-30  # probabilities below count as this, so that logarithms stay finite


def log(p: Any) -> Array:
    """Logarithm of probabilities, float32, those of 0 finite."""
    return jnp.log(jnp.maximum(jnp.asarray(p, jnp.float32), SMALLEST))


@dataclass(frozen=True)
class HMM(CellMemory):
    """Forward filter of a hidden Markov model (Baum et al. 1970): the output is the belief,
    `y[t] ~ p(o[t] | s) sum_s' p(s | s') y[t-1][s']`, `~` up to normalisation.

    The input is the one-hot observation; any other real vector weighs the log-likelihoods of
    the symbols. Computed with logarithms of beliefs. The carry, `(*B, H)` float32, is the
    log-probability of the next state less the log-prior.

    Attributes:
        features: H, number of hidden states, and width of the output.
    """

    features: int = 64

    ssm_params: ClassVar[tuple[str, ...]] = ("moves", "prior")

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Logits: moves that mostly stay (9 of 10), random sightings of `in_dim` symbols."""
        s = self.features
        stay = jnp.log(9.0 * max(s - 1, 1)) * jnp.eye(s)
        return {
            "moves": stay,  # from, to
            "sees": jax.random.normal(key, (s, in_dim)),
            "prior": jnp.zeros((s,)),
        }

    @staticmethod
    def given(moves: Any, sees: Any, prior: Any) -> PyTree:
        """Parameters of a known model.

        Args:
            moves: `(S, S)` probabilities, from (rows) and to (columns).
            sees: `(S, O)` probabilities of the observations in every state.
            prior: `(S,)` of the first state.

        Raises:
            UsageError: shapes that do not fit, or rows that do not sum to 1.
        """
        moves, sees, prior = (np.asarray(x, np.float64) for x in (moves, sees, prior))
        s = prior.shape[-1]
        rows = np.concatenate([x.sum(-1).ravel() for x in (moves, sees, prior)])
        if moves.shape != (s, s) or sees.shape[:-1] != (s,) or not np.allclose(rows, 1):
            raise UsageError(
                "an HMM needs moves (S, S), sees (S, O) and prior (S,) whose rows sum to 1; got "
                f"{moves.shape}, {sees.shape}, {prior.shape}"
            )
        return {"moves": log(moves), "sees": log(sees), "prior": log(prior)}

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> BH:
        return jnp.zeros((*batch_shape, self.features))

    def prepare(self, params: PyTree) -> Prepared:
        return Prepared(
            {
                "moves": jax.nn.softmax(params["moves"], axis=-1),
                "log_sees": jax.nn.log_softmax(params["sees"], axis=-1).T,
                "log_prior": jax.nn.log_softmax(params["prior"]),
            }
        )

    def inputs(self, params: PyTree, u: TBF) -> TBF:
        return matmul(u, params["log_sees"])

    def update(self, params: PyTree, carry: BH, inputs: BF) -> tuple[BH, BH]:
        log_prior = along_last(params["log_prior"], carry)
        belief = jax.nn.softmax(carry + log_prior + inputs, axis=-1)
        return log(belief @ params["moves"]) - log_prior, belief


@dataclass(frozen=True)
class Kalman(CellMemory):
    """Filter of a linear system with Gaussian noise (Kalman 1960): the exact belief.

    `z' = F z + w`, `o = O z + v`, w ~ N(0, Q), v ~ N(0, R); the input is the observation o.
    The output is the mean of z given all observations so far, and the variance of each entry.
    The carry is `{"mean", "factor"}` of the prediction of the next z: `(*B, n)`, and `(*B, n,
    n)` with `factor factor^T` its covariance, both less those of the prior, float32.

    Attributes:
        features: H, twice the number n of hidden variables, and width of the output.

    Raises:
        UsageError: `features` is odd.
    """

    features: int = 64

    ssm_params: ClassVar[tuple[str, ...]] = ("F", "noise", "prior_mean", "prior_factor")
    capabilities: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        if self.features < 2 or self.features % 2:
            raise UsageError(
                f"a Kalman filter puts out means and variances: features must be even, got "
                f"{self.features}"
            )

    @property
    def out_dim(self) -> int:  # type: ignore[override]
        return self.features

    def init(self, key: Key, in_dim: int) -> PyTree:
        """Slowly forgetting variables, each seen in a random direction."""
        n = self.features // 2
        keep = jnp.linspace(0.5, 0.99, n)
        return {
            "F": jnp.diag(keep),
            "O": jax.random.normal(key, (in_dim, n)) / n**0.5,
            "noise": jnp.diag(jnp.sqrt(1 - keep**2)),  # factors of the covariances
            "seen_noise": jnp.eye(in_dim),
            "prior_mean": jnp.zeros((n,)),
            "prior_factor": jnp.eye(n),
        }

    @staticmethod
    def given(F: Any, O: Any, Q: Any, R: Any, mean: Any, covariance: Any) -> PyTree:
        """Parameters of a known system, symbols as above; Q, R positive definite."""

        def factor(x: Any) -> Array:
            return jnp.asarray(np.linalg.cholesky(np.asarray(x, np.float64)), jnp.float32)

        return {
            "F": jnp.asarray(F, jnp.float32),
            "O": jnp.asarray(O, jnp.float32),
            "noise": factor(Q),
            "seen_noise": factor(R),
            "prior_mean": jnp.asarray(mean, jnp.float32),
            "prior_factor": factor(covariance),
        }

    def init_carry(self, batch_shape: tuple[int, ...] = ()) -> dict[str, Array]:
        n = self.features // 2
        return {"mean": jnp.zeros((*batch_shape, n)), "factor": jnp.zeros((*batch_shape, n, n))}

    def prepare(self, params: PyTree) -> Prepared:
        """An observation o tells of z by `seen = O^T R^-1 o`, as precisely as `O^T R^-1 O`:
        matrices as large as the state, however wide the observation is."""
        root, o = params["seen_noise"], params["O"]
        whitened = jax.scipy.linalg.solve_triangular(root, o, lower=True)
        seen = jax.scipy.linalg.solve_triangular(root, whitened, lower=True, trans="T")
        return Prepared(
            {
                "F": params["F"],
                "noise": params["noise"] @ params["noise"].T,
                "seen": seen,  # (in_dim, n)
                "precision": whitened.T @ whitened,
                "mean": params["prior_mean"],
                "factor": params["prior_factor"],
            }
        )

    def inputs(self, params: PyTree, u: TBF) -> TBF:
        return matmul(u, params["seen"])

    def update(
        self, params: PyTree, carry: dict[str, Array], inputs: BF
    ) -> tuple[dict[str, Array], BH]:
        prior = along_last(params["mean"], inputs)
        prior_factor = params["factor"].reshape((1,) * (inputs.ndim - 1) + params["F"].shape)
        mean, factor = carry["mean"] + prior, carry["factor"] + prior_factor
        # Covariance (P^-1 + precision)^-1 for P = L L^T: L (I + L^T precision L)^-1 L^T
        across = jnp.swapaxes(factor, -1, -2)
        identity = jnp.eye(factor.shape[-1]).reshape(prior_factor.shape)
        inner = matmul(across, params["precision"]) @ factor + identity
        half = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(inner), across, lower=True)
        surprise = inputs - mean @ params["precision"]
        mean = mean + jnp.einsum(
            "...ki,...k->...i", half, jnp.einsum("...ki,...i->...k", half, surprise)
        )
        variance = jnp.sum(half * half, axis=-2)
        moved = matmul(half, params["F"].T)
        noise = params["noise"].reshape(prior_factor.shape)
        ahead = jnp.swapaxes(moved, -1, -2) @ moved + noise
        after = {
            "mean": mean @ params["F"].T - prior,
            "factor": jnp.linalg.cholesky(ahead) - prior_factor,
        }
        return after, jnp.concatenate([mean, variance], axis=-1)
