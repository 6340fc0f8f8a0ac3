"""ConvS5: S5 whose state is an image (Smith, De Mello, Kautz, Linderman and Byeon 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ssmrl.errors import UsageError
from ssmrl.memory import discretize
from ssmrl.memory.hippo import diagonalised
from ssmrl.memory.spec import LinearMemory, Prepared
from ssmrl.shapes import TBF, TBH, TBP, Array, Key, PyTree

LARGEST_REAL_PART = -1e-4  # as in S5: eigenvalues stay in the left half plane


@dataclass(frozen=True)
class ConvS5(LinearMemory):
    """`x[t] = lam_bar x[t-1] + B_bar * u[t]`, `y[t] = 2 Re(C * x[t]) + D u[t]`, where `*`
    convolves images, zeros around them, and lam_bar and D scale channels.

    Input and output are images `(height, width, channels)`, flattened to `features` in this
    order. For an image of one pixel this is S5. The carry is `(*B, height, width, state // 2)`
    complex64.

    Attributes:
        features: H = height * width * channels, of input and output.
        height, width: of the image.
        state: N, real-equivalent state size of a pixel; even.
        kernel: odd width of the convolutions, but 1 along an axis of size 1.
        dt_min, dt_max: range of the initial step lengths, log-uniform.

    Raises:
        UsageError: an option out of range, or an input that is not H wide.
    """

    features: int = 64
    height: int = 1
    width: int = 1
    state: int = 64
    kernel: int = 3
    dt_min: float = 1e-3
    dt_max: float = 1e-1

    ssm_params: ClassVar[tuple[str, ...]] = ("lam_re", "lam_im", "log_dt", "B")
    capabilities: ClassVar[frozenset[str]] = frozenset({"lti"})
    state_dtype: ClassVar[type] = jnp.complex64

    def __post_init__(self) -> None:
        pixels = self.height * self.width
        if min(self.height, self.width) < 1 or self.features < 1 or self.features % pixels:
            raise UsageError(
                "ConvS5 needs features = height * width * channels; got features="
                f"{self.features}, height={self.height}, width={self.width}"
            )
        if self.state < 2 or self.state % 2 or self.kernel < 1 or not self.kernel % 2:
            raise UsageError(
                f"ConvS5 needs an even state and an odd kernel; got {self.state}, {self.kernel}"
            )
        if not 0 < self.dt_min <= self.dt_max:
            raise UsageError(f"ConvS5 needs 0 < dt_min <= dt_max; got {self.dt_min}, {self.dt_max}")

    @property
    def channels(self) -> int:
        """Channels of the input's and the output's images."""
        return self.features // (self.height * self.width)

    @property
    def window(self) -> tuple[int, int]:
        """Size of the convolutions."""
        return tuple(self.kernel if n > 1 else 1 for n in (self.height, self.width))  # type: ignore[return-value]

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (self.height, self.width, self.state // 2)

    def init(self, key: Key, in_dim: int) -> PyTree:
        """As S5, the fan-in of a kernel that of all its taps; complex arrays as pairs."""
        if in_dim != self.features:
            raise UsageError(
                f"ConvS5 reads images of {self.height} x {self.width} x {self.channels} = "
                f"{self.features} numbers; got in_dim={in_dim}"
            )
        key_b, key_c, key_d, key_dt = jax.random.split(key, 4)
        lam, v = diagonalised(self.state)
        taps, channels, half = int(np.prod(self.window)), self.channels, self.state // 2
        b = jax.random.normal(key_b, (*self.window, channels, self.state))
        c = jax.random.normal(key_c, (2, *self.window, half, channels))
        v_conj = jnp.asarray(np.stack([v.real, -v.imag]), jnp.float32)
        log_range = np.log(self.dt_min), np.log(self.dt_max)
        return {
            "lam_re": jnp.asarray(lam.real, jnp.float32),
            "lam_im": jnp.asarray(lam.imag, jnp.float32),
            "log_dt": jax.random.uniform(key_dt, (half,), jnp.float32, *log_range),
            "B": jnp.einsum("hwcn,rnp->rhwcp", b, v_conj) / (taps * channels) ** 0.5,
            "C": c / (2 * taps * self.state) ** 0.5,
            "D": jax.random.normal(key_d, (channels,)),
        }

    def prepare(self, params: PyTree) -> Prepared:
        lam_re = jnp.minimum(params["lam_re"], LARGEST_REAL_PART)
        lam = jax.lax.complex(lam_re, params["lam_im"])
        lam_bar, gain = discretize.zoh(lam, jnp.exp(params["log_dt"]).astype(jnp.complex64))
        b = gain.reshape(1, 1, 1, -1) * jax.lax.complex(params["B"][0], params["B"][1])
        c_re, c_im = params["C"]
        return Prepared(
            {
                "lam_bar": lam_bar,  # (P,)
                "B": jnp.concatenate([b.real, b.imag], axis=-1),  # (k, k, channels, 2P)
                "C": 2 * jnp.concatenate([c_re, -c_im], axis=-2),  # (k, k, 2P, channels)
                "D": jnp.tile(params["D"], self.height * self.width),
            }
        )

    def elements(self, constants: PyTree, u: TBF) -> tuple[Array, TBP]:
        images = u.reshape(-1, self.height, self.width, self.channels)
        re, im = jnp.split(convolve(images, constants["B"]), 2, axis=-1)
        b = jax.lax.complex(re, im).reshape(*u.shape[:-1], *self.state_shape)
        return constants["lam_bar"], b

    def readout(self, constants: PyTree, x: TBP, u: TBF) -> TBH:
        images = x.reshape(-1, *self.state_shape)
        y = convolve(jnp.concatenate([images.real, images.imag], axis=-1), constants["C"])
        return y.reshape(u.shape) + constants["D"].reshape((1,) * (u.ndim - 1) + (-1,)) * u


def convolve(images: Array, kernel: Array) -> Array:
    """Images `(n, height, width, channels)` by a kernel `(k, k, channels, out)`, same size."""
    if kernel.shape[:2] == (1, 1):
        return (images.reshape(-1, images.shape[-1]) @ kernel[0, 0]).reshape(
            *images.shape[:-1], kernel.shape[-1]
        )
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=layout)
