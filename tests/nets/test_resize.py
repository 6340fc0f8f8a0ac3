"""Images halved and doubled by products of matrices, against XLA's convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssmrl.nets import resize

WAYS = {
    "halve": (resize._halve_by_product, resize._halve_by_convolution, resize.halve),
    "double": (resize._double_by_product, resize._double_by_convolution, resize.double),
}


def problem(side: int = 8):
    keys = jax.random.split(jax.random.key(0), 2)
    return jax.random.normal(keys[0], (2, side, side, 3)), jax.random.normal(keys[1], (4, 4, 3, 5))


@pytest.mark.parametrize("name", WAYS)
def test_the_product_is_the_convolution_for_values_and_gradients(name):
    by_product, by_convolution, _ = WAYS[name]

    @jax.jit
    def both(x, kernel):
        return [
            (f(x, kernel), jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), (0, 1))(x, kernel))
            for f in (by_product, by_convolution)
        ]

    got, wanted = both(*problem())
    assert got[0].shape == ((2, 4, 4, 5) if name == "halve" else (2, 16, 16, 5))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), got, wanted)


@pytest.mark.parametrize("name", WAYS)
def test_a_process_that_also_has_an_accelerator_lowers_both_and_runs_the_product(name, monkeypatch):
    monkeypatch.setattr(resize, "only_cpu", lambda: False)
    by_product, _, function = WAYS[name]
    chosen, wanted = jax.jit(lambda *a: (function(*a), by_product(*a)))(*problem(4))
    np.testing.assert_allclose(chosen, wanted, atol=1e-5)
