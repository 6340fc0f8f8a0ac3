"""The legend of array shapes: one letter means one thing everywhere in `ssmrl`.

    T  time steps, always the first axis of a sequence
    B  parallel environments or sequences; `*B` is any number of batch axes, none included
    F  features of an input          H  features of a hidden layer or of an output
    P  entries of a recurrent state  A  entries of an action, or number of discrete actions
    S  random seeds trained side by side (always outermost)

Sequences are time-major, `(T, *B, F)`. `reset: (T, *B)` of bool is True at t iff the
input at t is the first of a new episode: the carry of t-1 is dropped before it is read.
Each alias below is a plain `jax.Array`; its name tells the shape to the reader.
"""

from typing import Any, TypeAlias

import jax

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array  # a typed PRNG key, shape ()
Scalar: TypeAlias = jax.Array  # shape ()
PyTree: TypeAlias = Any

TBF: TypeAlias = jax.Array  # (T, *B, F) inputs
TBH: TypeAlias = jax.Array  # (T, *B, H) outputs
TBP: TypeAlias = jax.Array  # (T, *B, P) states
TB: TypeAlias = jax.Array  # (T, *B) one number, or one flag, per step
BF: TypeAlias = jax.Array  # (*B, F)
BH: TypeAlias = jax.Array  # (*B, H)
BP: TypeAlias = jax.Array  # (*B, P)
B: TypeAlias = jax.Array  # (*B,)
