"""Environments: `make(id)`, `list_envs()`, `register`, and the wrappers agents use."""

from ssmrl.envs.registry import list_envs, make, register
from ssmrl.envs.wrappers import EpisodeStatistics, PreviousStep, Wrapper

__all__ = ["EpisodeStatistics", "PreviousStep", "Wrapper", "list_envs", "make", "register"]
