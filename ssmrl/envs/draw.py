"""Whole numbers from words of 32 random bits: cheap draws for environments that make many."""

import jax.numpy as jnp

from ssmrl.shapes import Scalar


def below(word: Scalar, bound: Scalar) -> Scalar:
    """A whole number in 0 … bound-1 from 32 random bits: floor(word * bound / 2**32), int32.

    word: () uint32. bound: () int32 below 2**16, else the two halves of the product overflow.
    No value is more likely than another by more than a factor 1 + bound / 2**32 (2e-7 for 16
    packs), far below what any test of an agent can see; exactness would need a loop.
    """
    bound = bound.astype(jnp.uint32)
    low = (word & 0xFFFF) * bound
    return (((word >> 16) * bound + (low >> 16)) >> 16).astype(jnp.int32)


def left_over(word: Scalar, bound: Scalar) -> Scalar:
    """Random bits for another draw from a word that served for `below(word, bound)`.

    They are the digits behind the point of word * bound / 2**32: log2(bound) bits fewer than
    the word had, so that a second number below the same bound is as even as one draw below
    bound**2. word: () uint32. bound: () int32. Returns () uint32.
    """
    return word * bound.astype(jnp.uint32)
