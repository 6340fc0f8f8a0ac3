"""Training of memories: parameter groups, and pre-training on trajectories.

`optimizer` imports Optax when called; `ssmrl.memory.training.pretrain` is imported by name.
"""
