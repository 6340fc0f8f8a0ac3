"""A fresh copy of the project installs itself and trains; so does its wheel."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ["total_steps=256", "agent.num_envs=4", "agent.rollout=16", "agent.minibatches=2"]
SMALL += ["memory.features=8", "eval_episodes=4"]


def run(*command, cwd, **environment):
    """As a user would: without what the tests set, but for half a minute of compiling to .pyc."""
    ours = ("PYTHON", "VIRTUAL_ENV", "JAX_", "XLA_")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    clean["PIP_NO_COMPILE"] = "1"
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """What a clone would hold: the tracked files, without an environment."""
    target = tmp_path_factory.mktemp("clone")
    files = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    for name in filter(None, files.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name, follow_symlinks=False)
    return target


@pytest.fixture(scope="module")
def trained(copy):
    python = {"PYTHON": sys.executable, "XDG_CACHE_HOME": str(copy / "cache")}
    return run("scripts/train.sh", "name=first", *SMALL, cwd=copy, **python)


def test_one_command_sets_everything_up_and_trains(copy, trained):
    assert trained.returncode == 0, trained.stderr
    assert "report: runs/first/report/curve.png" in trained.stdout
    assert (copy / "runs/first/report/curve.png").exists()


def test_a_mistake_is_answered_without_a_traceback(copy, trained):
    again = run("scripts/train.sh", "memory=s6", cwd=copy)
    assert again.returncode == 2
    assert "nearest: 's5'" in again.stderr and "Traceback" not in again.stderr
    assert "installing" not in again.stdout


def test_the_wheel_works_from_an_empty_folder_and_claims_one_name(copy, trained, tmp_path):
    pip = [copy / ".venv/bin/python", "-m", "pip", "--disable-pip-version-check"]
    built = run(*pip, "wheel", "-q", "--no-deps", "-w", tmp_path, ".", cwd=copy)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    run(*pip, "uninstall", "-q", "-y", "ssmrl", cwd=copy)
    installed = run(*pip, "install", "-q", "--no-deps", wheel, cwd=copy)
    assert installed.returncode == 0, installed.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    listed = run(copy / ".venv/bin/ssmrl", "list", "envs", cwd=empty)
    assert "popgym/RepeatPreviousEasy" in listed.stdout, listed.stderr
    ran = run(copy / ".venv/bin/ssmrl", "train", *SMALL, cwd=empty, XDG_CACHE_HOME=str(empty))
    assert ran.returncode == 0, ran.stderr
    for name in ("envs", "agents", "configs"):
        code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{name}') is None)"
        assert run(copy / ".venv/bin/python", "-c", code, cwd=empty).returncode == 1
