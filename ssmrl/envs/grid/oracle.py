"""The shortest way in a grid world, from the world's own `walk`."""

import jax
import jax.numpy as jnp

from ssmrl.envs.contract import EnvParams, EnvState
from ssmrl.envs.grid.world import GridWorld
from ssmrl.shapes import Array, B, Key, Scalar

FAR = 1 << 20  # more steps than any way has: there is none


def steps_to_go(world: GridWorld, state: EnvState) -> Array:
    """The least number of steps to win from each of the world's `situations`, (S,) int32.

    They hold for the layout of `state`, whose own number is at `world.index(state)`; FAR where
    it cannot be won. Pin Pad has one layout only, so that one call does.
    """
    actions = jnp.arange(world.num_actions, dtype=jnp.int32)

    def lead(state: EnvState, action: Scalar) -> tuple[Scalar, Scalar]:
        after, won = world.walk(state, action)
        return jnp.where(won, 0, world.index(after)), won

    situations = world.situations(state)
    after, won = jax.vmap(jax.vmap(lead, (None, 0)), (0, None))(situations, actions)

    def relax(carry: tuple[Array, Scalar]) -> tuple[Array, Scalar]:
        best = jnp.minimum(1 + jnp.min(jnp.where(won, 0, carry[0][after]), 1), FAR)
        return best, jnp.any(best < carry[0])

    start = (jnp.full(after.shape[:1], FAR, jnp.int32), jnp.array(True))
    return jax.lax.while_loop(lambda carry: carry[1], relax, start)[0]


def follow(world: GridWorld, way: Array, state: EnvState) -> Scalar:
    """The action, () int32, on the shortest way, given `way = steps_to_go(world, state)`."""

    def left(action: Scalar) -> Scalar:
        after, won = world.walk(state, action)
        return jnp.where(won, 0, way[jnp.where(won, 0, world.index(after))])

    cost = jax.vmap(left)(jnp.arange(world.num_actions, dtype=jnp.int32))
    return jnp.argmin(cost).astype(jnp.int32)


def oracle(world: GridWorld, state: EnvState) -> Scalar:
    """The action, () int32, of the quickest policy there is; it sees the whole state, also a
    hidden order. While Pin Pad celebrates a reward, when nothing can be won, it just walks.
    """
    return follow(world, steps_to_go(world, state), state)


def score(world: GridWorld, params: EnvParams, key: Key, episodes: int) -> tuple[B, B]:
    """Returns (float32) and lengths (int32) of `episodes` episodes of the oracle.

    The time limit must be known when this is compiled.
    """

    def episode(key: Key) -> tuple[Scalar, Scalar]:
        key_start, key_steps = jax.random.split(key)
        state = world.start(key_start)
        way = steps_to_go(world, state)

        def step(carry: tuple[EnvState, Scalar, Scalar, Scalar], key: Key) -> tuple:
            state, total, length, over = carry
            action = follow(world, way, state)
            _, state, reward, terminated, _ = world.step_env(key, state, action, params)
            total = total + jnp.where(over, 0.0, reward)
            length = length + jnp.where(over, 0, 1)
            return (state, total, length, over | terminated), None

        zero = (jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))
        keys = jax.random.split(key_steps, params.max_steps_in_episode)
        carry, _ = jax.lax.scan(step, (state, *zero, jnp.array(False)), keys)
        return carry[1], carry[2]

    return jax.vmap(episode)(jax.random.split(key, episodes))
