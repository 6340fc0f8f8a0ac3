"""Networks around a memory: Flax NNX modules and action distributions."""
