"""Card games of POPGym (Morad et al., ICLR 2023) in JAX, with the rules of popgym 1.0.7.

Rules, sizes, ends and rewards equal those of the Python package step by step: tests drive both
with the same hidden draw and the same actions.
"""

from functools import partial

from ssmrl.envs.popgym.autoencode import Autoencode
from ssmrl.envs.popgym.base import CardGame
from ssmrl.envs.popgym.concentration import Concentration
from ssmrl.envs.popgym.count_recall import CountRecall
from ssmrl.envs.popgym.higher_lower import HigherLower
from ssmrl.envs.popgym.repeat_first import RepeatFirst
from ssmrl.envs.popgym.repeat_previous import RepeatPrevious

__all__ = [
    "ENVIRONMENTS",
    "Autoencode",
    "CardGame",
    "Concentration",
    "CountRecall",
    "HigherLower",
    "RepeatFirst",
    "RepeatPrevious",
]

ENVIRONMENTS: dict[str, partial[CardGame]] = {
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
}
"""The 18 games by POPGym's name; ids are `popgym/<name>`."""
