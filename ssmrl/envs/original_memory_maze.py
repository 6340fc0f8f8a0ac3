"""The original Memory Maze (memory-maze 1.0.3) for Gymnasium; needs the extra `memory-maze`.

The package registers its environments with the old `gym`, whose `reset` and `step` return less
and which cannot be seeded after construction. `register` makes them known to Gymnasium under
the same ids (`MemoryMaze-9x9-v0`, `-ExtraObs-v0`, ... 16 variants of 4 sizes), truncation and
seeds included.
"""

import functools
import os
from ctypes.util import find_library
from typing import Any

import gymnasium
import numpy as np

from ssmrl.envs.memory_maze.layout import SIZES
from ssmrl.envs.packages import import_package
from ssmrl.errors import UsageError

LIBRARIES = {"egl": ("EGL", "libegl1 libgl1-mesa-dri"), "osmesa": ("OSMesa", "libosmesa6")}
"""By MUJOCO_GL: the system library that draws without a screen, and Debian's packages of it."""


def register() -> None:
    """Make the original's environments known to Gymnasium.

    Raises UsageError where the package or the system library that it draws with is missing.
    """
    for name in _tasks():
        if name not in gymnasium.registry:
            size, *variant = name.removeprefix("MemoryMaze-").split("-")
            longer = 10 if "HiFreq" in variant else 1
            gymnasium.register(
                name,
                entry_point="ssmrl.envs.original_memory_maze:OriginalMemoryMaze",
                max_episode_steps=SIZES[size].steps * longer,
                kwargs={"task": name},
            )


class OriginalMemoryMaze(gymnasium.Env):
    """One of the original's environments, by the new interface.

    task: its id. options: of the task, e.g. `camera_resolution`. Every reset takes some seconds:
    a seeded one builds the environment, others build the next maze. `render` is the latest
    picture that the agent saw.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012  (gymnasium's way)

    def __init__(self, task: str, render_mode: str | None = None, **options: Any) -> None:
        self.render_mode = render_mode
        self._task, self._options = task, options
        self._env: Any = None
        self.action_space, self.observation_space = _spaces(task, **options)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """A new maze."""
        super().reset(seed=seed)
        if seed is not None or self._env is None:
            self.close()
            self._env = _build(self._task, int(self.np_random.integers(2**31)), self._options)
        self._seen = self._env.reset()
        return self._seen, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """A step of 0.25 s; the end is always the time limit."""
        self._seen, reward, done, info = self._env.step(action)
        truncated = bool(info.get("TimeLimit.truncated", False))
        return self._seen, float(reward), done and not truncated, truncated, {}

    def render(self) -> np.ndarray:
        """(64, 64, 3) uint8."""
        return self._seen["image"] if isinstance(self._seen, dict) else self._seen

    def close(self) -> None:
        """Give memory and the drawing context back."""
        if self._env is not None:
            self._env.env.close()
            self._env = None


def _build(task: str, seed: int, options: dict[str, Any]) -> Any:
    """The package's own environment."""
    try:
        return _tasks()[task](seed=seed, **options)
    except TypeError as error:
        raise UsageError(f"{task} does not take these options: {error}") from error
    except Exception as error:
        raise UsageError(
            f"the original Memory Maze could not draw with MUJOCO_GL={os.environ['MUJOCO_GL']} "
            f"({type(error).__name__}: {error}): without a graphics card egl needs Mesa's drivers "
            "(apt-get install libgl1-mesa-dri); MUJOCO_GL=osmesa needs libosmesa6"
        ) from error


@functools.cache
def _spaces(task: str, **options: Any) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Spaces of actions and observations, for which one has to be built."""
    env = _build(task, 0, options)
    env.env.close()
    return _translated(env.action_space), _translated(env.observation_space)


def _tasks() -> dict[str, Any]:
    """The constructors of the package's environments, by id."""
    _choose_renderer()
    import_package("memory_maze", "the original Memory Maze")
    registry = import_package("gym", "the original Memory Maze").envs.registry
    return {name: registry[name].entry_point for name in registry if name.startswith("MemoryMaze-")}


def _choose_renderer() -> None:
    """Set MUJOCO_GL, where the user has not, to what is installed.

    Raises UsageError, naming library and package, where that library is missing.
    """
    found = [how for how, (library, _) in LIBRARIES.items() if find_library(library)]
    how = os.environ.setdefault("MUJOCO_GL", found[0] if found else "egl")
    if how in LIBRARIES and how not in found:
        library, packages = LIBRARIES[how]
        other = next((f"; or set MUJOCO_GL={other}" for other in found), "")
        raise UsageError(
            f"the original Memory Maze draws with MUJOCO_GL={how}, whose system library "
            f"lib{library} is missing: apt-get install {packages} (on Debian, Ubuntu){other}"
        )


def _translated(space: Any) -> gymnasium.Space:
    """A space of the old gym as one of Gymnasium's."""
    kind, spaces = type(space).__name__, gymnasium.spaces
    if kind == "Discrete":
        return spaces.Discrete(int(space.n))
    if kind == "Dict":
        return spaces.Dict({name: _translated(part) for name, part in space.spaces.items()})
    return spaces.Box(space.low, space.high, space.shape, space.dtype)
