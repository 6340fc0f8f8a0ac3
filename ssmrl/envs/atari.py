"""Atari 2600 games of ale-py as in Atari 100k (Kaiser et al. 2020; Mattes et al. 2023, appendix).

An action lasts for 4 frames and never sticks; the picture is the brighter of the last two, in
colours, 64 x 64; up to 30 frames pass before an episode begins, which ends with the last life.
"""

from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import AtariPreprocessing, TimeLimit

from ssmrl.envs.packages import import_package

NAMESPACE = "ALE"


def make_game(
    spec: EnvSpec,
    *,
    side: int = 64,
    repeat: int = 4,
    noops: int = 30,
    max_episode_steps: int | None = None,
    **options: Any,
) -> gymnasium.Env:
    """The game of `spec` (ALE/Pong-v5, ...), prepared.

    Args:
        spec: Gymnasium's entry.
        side: of the square picture, in pixels.
        repeat: frames for which an action lasts.
        noops: the most frames that pass before an episode begins.
        max_episode_steps: truncate there, in actions.
        options: further keywords of `gymnasium.make`, `full_action_space` for one.

    Raises:
        UsageError: ale-py or OpenCV, which scales the pictures, is not installed.
    """
    ale = import_package("ale_py", spec.id)
    import_package("cv2", spec.id)
    ale.ALEInterface.setLoggerMode(ale.LoggerMode.Error)  # else it greets
    game = gymnasium.make(spec, **{"frameskip": 1, "repeat_action_probability": 0.0, **options})
    game = AtariPreprocessing(game, noops, repeat, side, grayscale_obs=False)
    return game if max_episode_steps is None else TimeLimit(game, max_episode_steps)
