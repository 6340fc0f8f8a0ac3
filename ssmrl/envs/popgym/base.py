"""What the card games of POPGym share: auto-reset that keeps the deck, dealing, scoring."""

from abc import abstractmethod
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ssmrl.envs.contract import Discrete, Environment, EnvParams, EnvState
from ssmrl.envs.popgym.deck import VALUES, Deck, new_deck
from ssmrl.shapes import Key, PyTree, Scalar

Step = tuple[PyTree, Any, Scalar, Scalar, dict[str, Any]]
"""What `step_env` returns: observation, state, reward (float32), terminated, info."""


class CardGame(Environment):
    """A game whose next episode is dealt from the deck as the last one left it.

    A game defines `episode_steps`, `sorted_state`, `begin` and `step_env`; the end of the game
    by its rules is `is_terminated`.
    """

    episode_steps: int  # the longest episode, in steps

    @property
    def default_params(self) -> EnvParams:
        """`max_steps_in_episode` truncates earlier where it is lowered."""
        return EnvParams(max_steps_in_episode=self.episode_steps)

    @abstractmethod
    def sorted_state(self) -> Any:
        """The state before the very first episode: sorted decks, everything else zero."""

    @abstractmethod
    def begin(self, key: Key, state: Any, new: Scalar) -> tuple[PyTree, Any]:
        """Begin an episode where `new` (() bool), else leave `state` as it is.

        Returns the first observation (meaningless where not `new`) and the state. Decks are
        collected, not sorted.
        """

    @partial(jax.jit, static_argnames=("self",))
    def step(
        self, key: Key, state: Any, action: Scalar, params: EnvParams | None = None
    ) -> tuple[PyTree, Any, Scalar, Scalar, Scalar, dict[str, Any]]:
        """One step with auto-reset, as in the contract; only small fields are reset."""
        params = self.default_params if params is None else params
        key_step, key_begin = jax.random.split(key)
        last, state, reward, terminated, info = self.step_env(key_step, state, action, params)
        truncated = self.is_truncated(state, params)
        done = terminated | truncated
        first, state = self.begin(key_begin, state, done)
        obs = jax.tree.map(partial(jnp.where, done), first, last)
        flags = {"terminated": terminated, "truncated": truncated}
        return (
            obs,
            state,
            reward,
            terminated,
            truncated,
            {**info, **flags, "final_observation": last},
        )

    def reset_env(self, key: Key, params: EnvParams) -> tuple[PyTree, Any]:
        """The first observation and state of an episode dealt from sorted decks."""
        return self.begin(key, self.sorted_state(), jnp.array(True))

    def is_truncated(self, state: Any, params: EnvParams) -> Scalar:
        """Whether a lowered time limit, not the game's rules, ended the episode."""
        return (state.time >= params.max_steps_in_episode) & ~self.is_terminated(state, params)

    def is_terminated(self, state: Any, params: EnvParams) -> Scalar:
        """Whether the game is over; unless a game says otherwise, after `episode_steps`."""
        return state.time >= self.episode_steps

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return self.action_space(self.default_params).n


@struct.dataclass
class DealState(EnvState):
    """time: () int32, steps taken. deck: what was dealt, the last card being the one shown."""

    deck: Deck


class DealGame(CardGame):
    """One card per step, whose value is the observation, until the deck is empty.

    A game adds its actions and the `reward` of one step.
    """

    def __init__(self, decks: int, kind: str) -> None:
        self.decks, self.kind = decks, kind
        self.num_cards = new_deck(decks, kind).cards.shape[0]
        self.episode_steps = self.num_cards - 1

    @abstractmethod
    def reward(self, state: DealState, card: Scalar, action: Scalar) -> Scalar:
        """The reward, () float32, of `action` before `card` is dealt; state is the old one."""

    def sorted_state(self) -> DealState:
        """A sorted deck, no card dealt."""
        return DealState(time=jnp.zeros((), jnp.int32), deck=new_deck(self.decks, self.kind))

    def begin(self, key: Key, state: DealState, new: Scalar) -> tuple[Scalar, DealState]:
        """Deal the first card where `new`."""
        deck, card = state.deck.collect(new).deal(jax.random.bits(key), new)
        return card, DealState(time=jnp.where(new, 0, state.time), deck=deck)

    def step_env(self, key: Key, state: DealState, action: Scalar, params: EnvParams) -> Step:
        """Score the action, deal a card."""
        deck, card = state.deck.deal(jax.random.bits(key), jnp.array(True))
        reward = self.reward(state, card, action)
        state = DealState(time=state.time + 1, deck=deck)
        return card, state, reward, self.is_terminated(state, params), {}

    def observation_space(self, params: EnvParams) -> Discrete:
        """The value of the card shown."""
        return Discrete(VALUES[self.kind])

    def action_space(self, params: EnvParams | None = None) -> Discrete:
        """The value to name."""
        return Discrete(VALUES[self.kind])


def right_or_wrong(right: Scalar, scale: float) -> Scalar:
    """+scale where `right` (bool), else -scale: float32."""
    return jnp.where(right, jnp.float32(scale), jnp.float32(-scale))
