import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from ssmrl.agents import AGENTS
from ssmrl.configs.compose import load
from ssmrl.envs import registry
from ssmrl.run.train import resume, train
from tests.run.fakes import install

ROOT = Path(__file__).parents[2]
FAKE = ("agent=fake", "memory=mlp", "env=fake/RandomLength", "eval_episodes=8", "total_steps=400")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, tmp_path_factory, monkeypatch):
    """Runs go to the test's own folder, compiled programs to one of the test session."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    """The fake agent and environment are registered for the time of a test."""
    agents, environments = {}, {}
    install(agents, environments)
    for name, agent in agents.items():
        monkeypatch.setitem(AGENTS, name, agent)
    for name, environment in environments.items():
        monkeypatch.setitem(registry._registered, name, environment)


def merged(overrides):
    """The defaults of these tests, unless they are overridden."""
    keys = {override.split("=")[0] for override in overrides}
    return [default for default in FAKE if default.split("=")[0] not in keys] + list(overrides)


class Runner:
    """Trains in this process or in another, and keeps what was printed."""

    def __init__(self):
        self.console = Console(file=io.StringIO(), width=100)

    @property
    def printed(self):
        return self.console.file.getvalue()

    def train(self, *overrides):
        return train(load(merged(overrides)), self.console)

    def resume(self, name, *overrides):
        return resume(name, overrides, self.console)

    def train_in_child(self, signal, *overrides):
        return self.child(["train", *merged(overrides)], SSMRL_TEST_SIGNAL=signal)

    def child(self, arguments, **environment):
        path = {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-m", "tests.run.child", *arguments],
            env=os.environ | path | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture
def runner():
    return Runner()
