import jax
import pytest


@pytest.fixture(autouse=True)
def strict_promotion():
    """Memory code never relies on implicit promotion of dtypes or ranks."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
