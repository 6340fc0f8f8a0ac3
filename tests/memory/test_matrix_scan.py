"""The dense affine scan: against a loop, against itself, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.errors import UsageError
from ssmrl.memory.matrix_scan import matrix_scan
from tests.envs.probes import run_once


def matrices(kind, rng, p=4):
    leading = {"constant": (), "per channel": (3,), "per step": (9, 2, 3)}[kind]
    return (rng.normal(size=(*leading, p, p)) * 0.5).astype(np.float32)


@pytest.mark.parametrize("backend", ["sequential", "associative"])
def test_the_matrix_scan_equals_the_loop(backend):
    rng = np.random.default_rng(0)
    b, h0, z = (rng.normal(size=s).astype(np.float32) for s in ((9, 2, 3, 4), (2, 3, 4), (3, 4)))
    reset = rng.random((9, 2)) < 0.3
    kinds = {kind: matrices(kind, rng) for kind in ("constant", "per channel", "per step")}

    def scans(kinds, b, h0, z, reset):
        return {
            kind: (
                matrix_scan(a, b, h0, reset=reset, reset_to=z, backend=backend),
                matrix_scan(a, b, backend=backend),
            )
            for kind, a in kinds.items()
        }

    got = run_once(scans, kinds, b, h0, z, reset)
    for kind, a in kinds.items():
        x, plain, want, alone = h0, np.zeros_like(h0), [], []
        for t in range(9):
            a_t = a[t] if kind == "per step" else a
            x = np.where(reset[t][:, None, None], z, x)
            x, plain = ((a_t @ v[..., None])[..., 0] + b[t] for v in (x, plain))
            want.append(x)
            alone.append(plain)
        np.testing.assert_allclose(got[kind][0], want, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(got[kind][1], alone, rtol=1e-4, atol=1e-4)


def test_both_matrix_scans_have_the_same_gradients_and_hide_the_past():
    rng = np.random.default_rng(1)
    a, b = matrices("constant", rng), jnp.asarray(rng.normal(size=(9, 2, 4)), jnp.float32)
    reset = jnp.zeros((9, 2), bool).at[5].set(True)

    def after(a, b, backend):
        return matrix_scan(a, b, reset=reset, backend=backend)[5:]

    def all_of(a, b):
        found = []
        for backend in ("sequential", "associative"):
            grads = jax.grad(lambda *x, k=backend: jnp.sum(after(*x, k) ** 2), (0, 1))(a, b)
            found.append((after(a, b, backend), after(a, b.at[2].set(jnp.nan), backend), grads))
        return found

    found = run_once(all_of, jnp.asarray(a), b)
    for y, poisoned, (_, grad_b) in found:
        np.testing.assert_array_equal(y, poisoned)
        assert np.all(np.asarray(grad_b[:5]) == 0) and np.all(np.asarray(grad_b[5:]) != 0)
    for one, other in zip(*(jax.tree.leaves(f[2]) for f in found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "asociative"}, "nearest: 'associative'"),
        ({"a": jnp.zeros((5, 5))}, "does not fit"),
        ({"a": jnp.zeros(4)}, "A must be"),
        ({"a": jnp.zeros((4, 4), jnp.complex64)}, "one dtype"),
        ({"reset": jnp.zeros((3, 8), bool)}, "batch-major"),
        ({"h0": jnp.zeros((2, 4))}, "h0 must broadcast"),
        (
            {"a": jnp.eye(40), "b": jnp.zeros((8, 3, 40)), "backend": "associative"},
            "at most 32",
        ),
    ],
)
def test_what_does_not_fit_a_matrix_scan_is_refused(change, message):
    arguments = {"a": jnp.zeros((4, 4)), "b": jnp.zeros((8, 3, 4))} | change
    with pytest.raises(UsageError, match=message):
        matrix_scan(arguments.pop("a"), arguments.pop("b"), **arguments)
