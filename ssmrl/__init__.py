"""Reinforcement learning with memory: SSM memory, world models and JAX environments, jitted.

`ssmrl.memory` is what people plug into their own policies; `ssmrl.envs.make` and
`ssmrl.make_agent` are what `ssmrl train` is made of. Importing `ssmrl` itself imports
nothing heavy: `ssmrl.memory` alone needs only jax and numpy.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "make_agent"]


def __getattr__(name: str) -> Any:
    if name == "make_agent":
        from ssmrl.agents import make_agent

        return make_agent
    raise AttributeError(f"module 'ssmrl' has no attribute {name!r}")
