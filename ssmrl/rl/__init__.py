"""Pure functions of reinforcement learning: returns, losses, running statistics."""
