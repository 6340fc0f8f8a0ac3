"""Grid worlds of a known structure, to test hierarchies and long horizons on.

Ids are `grid/KeyDoorGoal`, `grid/OrderedPads` and `pinpad/three` to `pinpad/eight`. Everything
is in sight; what is far away is the reward. `oracle` knows the shortest way.
"""

from functools import partial

from ssmrl.envs.grid.key_door_goal import KeyDoorGoal
from ssmrl.envs.grid.ordered_pads import OrderedPads
from ssmrl.envs.grid.pinpad import PADS, PinPad

__all__ = ["ENVIRONMENTS", "PIN_PADS", "KeyDoorGoal", "OrderedPads", "PinPad"]

ENVIRONMENTS: dict[str, type[KeyDoorGoal | OrderedPads]] = {
    "KeyDoorGoal": KeyDoorGoal,
    "OrderedPads": OrderedPads,
}
"""The worlds `grid/<name>`."""

PIN_PADS = {task: partial(PinPad, task=task) for task in PADS}
"""The worlds `pinpad/<task>`: how many pads there are."""
