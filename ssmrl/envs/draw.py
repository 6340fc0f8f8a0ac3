"""Whole numbers from words of 32 random bits: cheap draws for environments that make many."""

import jax
import jax.numpy as jnp

from ssmrl.shapes import Key, Scalar


def word(key: Key) -> Scalar:
    """32 random bits, () uint32, from a key that serves for nothing else.

    `jax.random.bits` hashes the key once more, in a loop that takes as long on CPU as all else
    that a card game does in a step. A key from `split` or `fold_in` is random bits already; keys
    made from neighbouring numbers are not, so its words go through the finaliser of MurmurHash3
    (Appleby 2011), in which every bit in changes every bit out with a chance of one half.
    """
    bits = jnp.zeros((), jnp.uint32)
    for part in jax.random.key_data(key):
        bits = (bits ^ part) + jnp.uint32(0x9E3779B9)  # else a key of zeros would give zero
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
        bits = bits ^ (bits >> 16)
    return bits


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
