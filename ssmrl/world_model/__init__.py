"""World models with memory: learn to predict, then imagine (R2I, Samsami et al. 2024)."""

from ssmrl.world_model.config import WorldModelConfig
from ssmrl.world_model.latent import POLICY_INPUTS, Latent, features
from ssmrl.world_model.model import Batch, Observed, OpenLoop, Prepared, WorldModel

__all__ = [
    "POLICY_INPUTS",
    "Batch",
    "Latent",
    "Observed",
    "OpenLoop",
    "Prepared",
    "WorldModel",
    "WorldModelConfig",
    "features",
]
