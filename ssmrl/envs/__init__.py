"""Environments: `make(id)`, `list_envs()`, `register`, and the wrappers agents use.

`to_gymnasium` and `to_gymnasium_vector` hand ours to other people's trainers.
"""

from ssmrl.envs.as_gymnasium import to_gymnasium, to_gymnasium_vector
from ssmrl.envs.registry import list_envs, make, register
from ssmrl.envs.wrappers import EpisodeStatistics, PreviousStep, Wrapper

__all__ = [
    "EpisodeStatistics",
    "PreviousStep",
    "Wrapper",
    "list_envs",
    "make",
    "register",
    "to_gymnasium",
    "to_gymnasium_vector",
]
