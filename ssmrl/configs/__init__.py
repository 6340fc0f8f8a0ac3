"""Configuration: `train.yaml`, the groups agent, memory and experiment, and their schemas."""
