"""Exact Bayesian filters as memories: the best that any memory can know of a given model.

They are oracles for experiments whose hidden process is known, and learnable memories like any
other where it is not. `given` makes the parameters of a known model. A carry holds the
difference from the prior, so that zeros are the prior, whatever the parameters are.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from ssmrl.errors import UsageError
from ssmrl.memory.dense import along_last, matmul
from ssmrl.memory.hierarchy import positions
from ssmrl.memory.spec import (
    CellMemory,
    Memory,
    Prepared,
    Reading,
    cell_scan,
    in_chunks,
    start_carry,
)
from ssmrl.shapes import BF, BH, TBF, TBH, Array, Key, PyTree

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
class Kalman(Memory):
    """Filter of a linear system with Gaussian noise (Kalman 1960): the exact belief.

    `z' = F z + w`, `o = O z + v`, w ~ N(0, Q), v ~ N(0, R); the input is the observation o.
    The output is the mean of z given all observations so far, and the variance of each entry.
    Covariances depend on the number of observations alone, so `prepare` makes them once for all
    sequences. The carry is `{"mean", "count"}`: the prediction of the next z, less the mean of
    the prior, `(*B, n)` float32, and the observations read in this episode, `(*B,)` int32.

    Attributes:
        features: H, twice the number n of hidden variables, and width of the output.
        longest: observations after which the covariance counts as settled and stays. It
            settles fast unless z is seen poorly and forgotten slowly.

    Raises:
        UsageError: `features` is odd, or `longest` below 1.
    """

    features: int = 64
    longest: int = 128

    ssm_params: ClassVar[tuple[str, ...]] = ("F", "noise", "prior_mean", "prior_factor")
    capabilities: ClassVar[frozenset[str]] = frozenset({"counter"})

    def __post_init__(self) -> None:
        if self.features < 2 or self.features % 2 or self.longest < 1:
            raise UsageError(
                "a Kalman filter puts out means and variances: features must be even, and longest "
                f"at least 1; got features={self.features}, longest={self.longest}"
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
        return {"mean": jnp.zeros((*batch_shape, n)), "count": jnp.zeros(batch_shape, jnp.int32)}

    def prepare(self, params: PyTree) -> Prepared:
        """An observation o tells of z by `seen = O^T R^-1 o`, as precisely as `O^T R^-1 O`:
        matrices as large as the state, however wide the observation is."""
        root, o = params["seen_noise"], params["O"]
        whitened = solve_triangular(root, o, lower=True)
        precision = whitened.T @ whitened
        return Prepared(
            {
                "F": params["F"],
                "seen": solve_triangular(root, whitened, lower=True, trans="T"),  # (in_dim, n)
                "precision": precision,
                "mean": params["prior_mean"],
                "covariance": self.covariances(params, precision),
            }
        )

    def covariances(self, params: PyTree, precision: Array) -> Array:
        """Those of z after 1, ..., `longest` observations, `(longest, n, n)`.

        `(P^-1 + precision)^-1 = L (I + L^T precision L)^-1 L^T` for a prediction `P = L L^T`.
        """
        noise = params["noise"] @ params["noise"].T

        def observe(factor: Array, _: None) -> tuple[Array, Array]:
            inner = jnp.eye(len(noise)) + factor.T @ precision @ factor
            half = solve_triangular(jnp.linalg.cholesky(inner), factor.T, lower=True)
            moved = half @ params["F"].T
            return jnp.linalg.cholesky(moved.T @ moved + noise), half.T @ half

        return jax.lax.scan(observe, params["prior_factor"], length=self.longest)[1]

    def read(
        self, constants: PyTree, carry: PyTree, u: TBF, reading: Reading
    ) -> tuple[PyTree, TBH]:
        start = start_carry(self, u.shape[1:-1], reading.start)

        def chunk(carry: PyTree, u: TBF, reading: Reading) -> tuple[PyTree, TBH]:
            count = positions(u.shape[:-1], carry["count"], reading.reset, start["count"])
            covariance = constants["covariance"][jnp.minimum(count, self.longest - 1)]
            inputs = (matmul(u, constants["seen"]), covariance)
            update = partial(self.update, constants)
            ahead, mean = cell_scan(update, carry["mean"], inputs, reading.reset, start["mean"])
            variance = jnp.diagonal(covariance, axis1=-2, axis2=-1)
            y = jnp.concatenate([mean, variance], axis=-1)
            return {"mean": ahead, "count": count[-1] + 1}, y

        return in_chunks(chunk, carry, u, reading)

    def update(self, constants: PyTree, ahead: BF, inputs: tuple[BF, Array]) -> tuple[BF, BF]:
        """One step: the next prediction, less the mean of the prior, and the present mean."""
        seen, covariance = inputs
        prior = along_last(constants["mean"], ahead)
        mean = ahead + prior
        surprise = seen - mean @ constants["precision"]
        mean = mean + jnp.einsum("...ij,...j->...i", covariance, surprise)
        return mean @ constants["F"].T - prior, mean
