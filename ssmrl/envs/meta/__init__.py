"""Meta-RL, `meta/<name>`: a new task in every trial, several episodes to find out which.

    family of tasks     an environment that draws its own parameters   bandits, mdp, mazes, physics
      -> Projected      seen and steered through random matrices        projection
      -> Trial          several episodes of one task as one episode     trial
      -> Mixture        trials of several families side by side         mixture

An agent needs nothing new for it: the trial is its episode. `ssmrl eval RUN adaptation=true`
plays fresh tasks and tells the return of each episode of a trial.
"""

from collections.abc import Callable

from ssmrl.envs.contract import Environment
from ssmrl.envs.meta.bandits import BernoulliBandit, GaussianBandit
from ssmrl.envs.meta.cart_pole import MetaCartPole
from ssmrl.envs.meta.control import control
from ssmrl.envs.meta.dark_room import DarkRoom
from ssmrl.envs.meta.mixture import Mixture
from ssmrl.envs.meta.physics import RandomPhysics, random_physics
from ssmrl.envs.meta.projection import Projected
from ssmrl.envs.meta.t_maze import TMaze
from ssmrl.envs.meta.tabular_mdp import TabularMDP
from ssmrl.envs.meta.trial import FixedTask, Trial

__all__ = ["ENVIRONMENTS", "FixedTask", "Mixture", "Projected", "RandomPhysics", "Trial"]


def bernoulli_bandit(arms: int = 5, episodes: int = 100) -> Trial:
    """`episodes` pulls of one bandit, which pays 1 or 0 (Duan et al. 2016, section 3.1)."""
    return Trial(BernoulliBandit(arms), episodes)


def gaussian_bandit(arms: int = 5, episodes: int = 100) -> Trial:
    """`episodes` pulls of one bandit with normal payouts."""
    return Trial(GaussianBandit(arms), episodes)


def tabular_mdp(states: int = 10, actions: int = 5, steps: int = 10, episodes: int = 10) -> Trial:
    """Episodes of a random MDP (Duan et al. 2016, section 3.2)."""
    return Trial(TabularMDP(states, actions, steps), episodes)


def dark_room(size: int = 9, steps: int = 20, episodes: int = 10) -> Trial:
    """Episodes in a room with an invisible goal (Laskin et al. 2023, section 4.1)."""
    return Trial(DarkRoom(size, steps), episodes)


def t_maze(length: int = 5, cue: bool = False, episodes: int = 4) -> Trial:
    """Episodes in a T-maze; the goal stays in one arm throughout a trial."""
    return Trial(TMaze(length, cue), episodes)


def cart_pole(
    episodes: int = 16,
    steps: int = 200,
    same_start: bool = True,
    gain: float = 2**0.5,
    pay: str = "steps",
) -> Trial:
    """MetaCartPole (Lu et al. 2023, section 5.2): positions behind a random projection.

    As in the authors' code: two numbers become four, actions are left alone, and every episode
    of a trial begins in the same state unless `same_start` is false. gain: the length of a column
    of the projection; angles are small numbers, which a larger one makes easier to see. pay: by
    "steps" or by "falls", see `MetaCartPole`.
    """
    task = MetaCartPole(steps, pay)
    return Trial(Projected(task, features=4, gain=gain), episodes, same_start)


def projected(
    of: str = "gymnax/CartPole-v1",
    features: int = 12,
    actions: int | None = None,
    episodes: int = 8,
    same_start: bool = False,
) -> Trial:
    """Any environment, by its id, behind random projections: see `Projected` and `Trial`."""
    from ssmrl.envs.registry import make  # which knows this package

    return Trial(Projected(FixedTask(*make(of)), features, actions), episodes, same_start)


def varied_physics(
    of: str = "gymnax/CartPole-v1",
    fields: list[str] | tuple[str, ...] | None = None,
    spread: float = 0.5,
    episodes: int = 8,
) -> Trial:
    """Any environment, by its id, with other physics in each trial: see `random_physics`."""
    return Trial(random_physics(of, fields, spread), episodes)


def mixed_control(
    split: str = "train",
    only: str | None = None,
    features: int = 12,
    actions: int = 2,
    episodes: int = 4,
) -> Environment:
    """Several control tasks behind random projections, by split; `only` plays one of them."""
    trials = [Trial(family, episodes) for family in control(split, only, features, actions)]
    return trials[0] if len(trials) == 1 else Mixture(trials)


ENVIRONMENTS: dict[str, Callable[..., Environment]] = {
    "BernoulliBandit": bernoulli_bandit,
    "GaussianBandit": gaussian_bandit,
    "TabularMDP": tabular_mdp,
    "DarkRoom": dark_room,
    "TMaze": t_maze,
    "CartPole": cart_pole,
    "Projected": projected,
    "Control": mixed_control,
    "RandomPhysics": varied_physics,
}
"""Every family by name; ids are `meta/<name>`."""
