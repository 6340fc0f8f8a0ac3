import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ssmrl import memory
from ssmrl.envs.contract import Box, Discrete
from ssmrl.world_model import WorldModel, WorldModelConfig

IMAGE = Box(0, 255, (64, 64, 3), jnp.uint8)


def vector(size):
    return Box(-1.0, 1.0, (size,))


# layers, complex modes, width, deter | encoder and decoder MLP | channels | heads | obs, actions
PUBLISHED = {
    "POPGym": ((3, 128, 512, 1024), (1, 512), 1, (2, 512), vector(4), 4),
    "POPGym, corrected": ((5, 512, 1024, 512), (1, 512), 1, (2, 512), vector(4), 4),
    "Memory Maze": ((5, 512, 1024, 2048), (4, 400), 48, (4, 1024), IMAGE, 6),
    "BSuite": ((3, 128, 512, 512), (5, 1024), 1, (2, 512), vector(3), 2),
    "Atari100k": ((4, 128, 512, 512), (5, 1024), 32, (2, 512), IMAGE, 18),
    "DMC vision": ((4, 128, 512, 512), (5, 1024), 32, (2, 512), IMAGE, 6),
    "DMC proprio": ((4, 128, 512, 512), (5, 1024), 1, (2, 512), vector(24), 6),
    "tiny": ((4, 128, 200, 200), (2, 200), 32, (2, 200), IMAGE, 18),
    "medium": ((4, 128, 640, 1024), (3, 640), 48, (3, 640), IMAGE, 18),
    "large": ((4, 128, 768, 2048), (4, 768), 64, (4, 768), IMAGE, 18),
    "xlarge": ((4, 128, 1024, 4096), (5, 1024), 96, (5, 1024), IMAGE, 18),
}

# millions of encoder, sequence model with latents (memory alone), decoder, reward, continue; sum
MILLIONS = {
    "POPGym": ("0.00", "5.26", "2.37", "1.05", "1.44", "1.31", "9.07"),
    "POPGym, corrected": ("0.00", "25.7", "21.0", "0.79", "1.18", "1.05", "28.8"),
    "Memory Maze": ("1.55", "34.7", "21.0", "20.4", "6.56", "6.30", "69.5"),
    "BSuite": ("4.21", "5.00", "2.37", "5.78", "1.18", "1.05", "17.2"),
    "Atari100k": ("0.69", "7.37", "3.16", "6.99", "1.18", "1.05", "17.3"),
    "DMC vision": ("0.69", "7.36", "3.16", "6.99", "1.18", "1.05", "17.3"),
    "DMC proprio": ("4.23", "5.79", "3.16", "5.80", "1.18", "1.05", "18.1"),
    "tiny": ("0.69", "2.3", None, "5.7", None, None, "9.3"),
    "medium": ("1.6", "11.8", None, "14.1", None, None, "32"),
    "large": ("2.8", "18.1", None, "27.9", None, None, "57"),
    "xlarge": ("6.2", "34.7", None, "69.1", None, None, "129"),
}


def counts(name):
    """Parameters by part, and how many fewer than the original's by design."""
    (layers, modes, width, deter), mlp, channels, heads, obs_space, actions = PUBLISHED[name]
    initial = "zeros" if name == "BSuite" else "learned"
    config = WorldModelConfig(
        groups=32, classes=32, deter=deter, units=width, initial=initial, cnn_depth=channels,
        mlp_layers=mlp[0], mlp_units=mlp[1], head_layers=heads[0], head_units=heads[1],
    )  # fmt: skip
    # The original has `modes` complex modes with all of the spectrum of 8 HiPPO systems and
    # takes the real part of what they give. A mode and its conjugate can do the same, so half
    # the spectrum of 16 systems as large, `2 * modes` real numbers, is the same model.
    spec = memory.make(
        "s5", features=width, state=2 * modes, blocks=16, layers=layers, norm="post",
        discretization="bilinear",
    )  # fmt: skip
    made = nnx.eval_shape(
        lambda: WorldModel(config, obs_space, Discrete(actions), spec, rngs=nnx.Rngs(0))
    )
    sizes = {
        part: sum(x.size for x in jax.tree.leaves(state)) for part, state in nnx.state(made).items()
    }
    norms = 2 * width * layers  # our layer norms after each block have no scale and shift
    start = deter if initial == "learned" else 0  # its learned h never gets a gradient
    return sizes, norms, start


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name):
    sizes, norms, start = counts(name)
    total = sum(sizes.values())
    heads = sizes.pop("encoder"), sizes.pop("decoder"), sizes.pop("reward_head")
    cont, cell = sizes.pop("cont_head"), sizes["memory"]
    sequence = sum(sizes.values()) + norms + start
    ours = (heads[0], sequence, cell + norms, *heads[1:], cont, total + norms + start)
    for count, millions in zip(ours, MILLIONS[name], strict=True):
        if millions is not None:
            digits = len(millions.partition(".")[2])
            assert abs(count / 1e6 - float(millions)) <= 0.5 * 10**-digits + 1e-3, millions
    assert norms + start < 0.005 * total


def test_the_spectrum_at_the_start_is_the_published_one():
    spec = memory.S5(features=4, state=256, blocks=16)  # 128 complex modes
    frequency = np.abs(jax.jit(spec.init, static_argnums=1)(jax.random.key(0), 4)["lam_im"])
    fastest = np.unique(np.round(frequency, 1))[::-1]
    assert fastest.shape == (8,)
    np.testing.assert_allclose(fastest[:2], [81.0, 25.6])
