"""POPGym (Morad et al., ICLR 2023) in JAX, with the rules of popgym 1.0.7: 16 families.

Rules, sizes, ends and rewards equal those of the Python package step by step: tests drive both
with the same hidden draw and the same actions. A reset costs next to nothing: decks go on with
the order they have, odds are drawn when first needed, boards and mazes for those environments
alone that begin an episode.
"""

from functools import partial

from ssmrl.envs.game import Game
from ssmrl.envs.popgym.autoencode import Autoencode
from ssmrl.envs.popgym.battleship import Battleship
from ssmrl.envs.popgym.cartpole import PositionOnlyCartPole, VelocityOnlyCartPole
from ssmrl.envs.popgym.concentration import Concentration
from ssmrl.envs.popgym.count_recall import CountRecall
from ssmrl.envs.popgym.higher_lower import HigherLower
from ssmrl.envs.popgym.labyrinth import LabyrinthEscape, LabyrinthExplore
from ssmrl.envs.popgym.minesweeper import MineSweeper
from ssmrl.envs.popgym.multiarmed_bandit import MultiarmedBandit
from ssmrl.envs.popgym.pendulum import PositionOnlyPendulum
from ssmrl.envs.popgym.repeat_first import RepeatFirst
from ssmrl.envs.popgym.repeat_previous import RepeatPrevious

__all__ = [
    "ENVIRONMENTS",
    "Autoencode",
    "Battleship",
    "Concentration",
    "CountRecall",
    "Game",
    "HigherLower",
    "LabyrinthEscape",
    "LabyrinthExplore",
    "MineSweeper",
    "MultiarmedBandit",
    "PositionOnlyCartPole",
    "PositionOnlyPendulum",
    "RepeatFirst",
    "RepeatPrevious",
    "VelocityOnlyCartPole",
]

ENVIRONMENTS: dict[str, partial[Game]] = {
    "RepeatFirstEasy": partial(RepeatFirst, decks=1),
    "RepeatFirstMedium": partial(RepeatFirst, decks=8),
    "RepeatFirstHard": partial(RepeatFirst, decks=16),
    "RepeatPreviousEasy": partial(RepeatPrevious, decks=1, k=4),
    "RepeatPreviousMedium": partial(RepeatPrevious, decks=2, k=32),
    "RepeatPreviousHard": partial(RepeatPrevious, decks=3, k=64),
    "AutoencodeEasy": partial(Autoencode, decks=1),
    "AutoencodeMedium": partial(Autoencode, decks=2),
    "AutoencodeHard": partial(Autoencode, decks=3),
    "CountRecallEasy": partial(CountRecall, decks=1, kind="colors"),
    "CountRecallMedium": partial(CountRecall, decks=2, kind="suits"),
    "CountRecallHard": partial(CountRecall, decks=4, kind="ranks"),
    "HigherLowerEasy": partial(HigherLower, decks=1),
    "HigherLowerMedium": partial(HigherLower, decks=2),
    "HigherLowerHard": partial(HigherLower, decks=3),
    "ConcentrationEasy": partial(Concentration, decks=1, kind="colors"),
    "ConcentrationMedium": partial(Concentration, decks=2, kind="colors"),
    "ConcentrationHard": partial(Concentration, decks=1, kind="ranks"),
    "BattleshipEasy": partial(Battleship, size=8),
    "BattleshipMedium": partial(Battleship, size=10),
    "BattleshipHard": partial(Battleship, size=12),
    "MineSweeperEasy": partial(MineSweeper, size=4, mines=2),
    "MineSweeperMedium": partial(MineSweeper, size=6, mines=6),
    "MineSweeperHard": partial(MineSweeper, size=8, mines=10),
    "MultiarmedBanditEasy": partial(MultiarmedBandit, arms=10, steps=200),
    "MultiarmedBanditMedium": partial(MultiarmedBandit, arms=20, steps=400),
    "MultiarmedBanditHard": partial(MultiarmedBandit, arms=30, steps=600),
    "PositionOnlyCartPoleEasy": partial(PositionOnlyCartPole, steps=200),
    "PositionOnlyCartPoleMedium": partial(PositionOnlyCartPole, steps=400),
    "PositionOnlyCartPoleHard": partial(PositionOnlyCartPole, steps=600),
    "VelocityOnlyCartPoleEasy": partial(VelocityOnlyCartPole, steps=200),
    "VelocityOnlyCartPoleMedium": partial(VelocityOnlyCartPole, steps=400),
    "VelocityOnlyCartPoleHard": partial(VelocityOnlyCartPole, steps=600),
    "NoisyPositionOnlyCartPoleEasy": partial(PositionOnlyCartPole, steps=200, noise=0.1),
    "NoisyPositionOnlyCartPoleMedium": partial(PositionOnlyCartPole, steps=200, noise=0.2),
    "NoisyPositionOnlyCartPoleHard": partial(PositionOnlyCartPole, steps=200, noise=0.3),
    "PositionOnlyPendulumEasy": partial(PositionOnlyPendulum, steps=200),
    "PositionOnlyPendulumMedium": partial(PositionOnlyPendulum, steps=150),
    "PositionOnlyPendulumHard": partial(PositionOnlyPendulum, steps=100),
    "NoisyPositionOnlyPendulumEasy": partial(PositionOnlyPendulum, steps=200, noise=0.1),
    "NoisyPositionOnlyPendulumMedium": partial(PositionOnlyPendulum, steps=200, noise=0.2),
    "NoisyPositionOnlyPendulumHard": partial(PositionOnlyPendulum, steps=200, noise=0.3),
    "LabyrinthEscapeEasy": partial(LabyrinthEscape, size=10),
    "LabyrinthEscapeMedium": partial(LabyrinthEscape, size=14),
    "LabyrinthEscapeHard": partial(LabyrinthEscape, size=18),
    "LabyrinthExploreEasy": partial(LabyrinthExplore, size=10),
    "LabyrinthExploreMedium": partial(LabyrinthExplore, size=14),
    "LabyrinthExploreHard": partial(LabyrinthExplore, size=18),
}
"""The 48 environments by POPGym's name; ids are `popgym/<name>`.

popgym 1.0.7 spells `VelocityOnlyCartpole…`, and called PositionOnly… Stateless… in the paper.
"""
