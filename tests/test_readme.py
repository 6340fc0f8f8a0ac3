"""Every command and every example of the README runs; long ones at a small size."""

import re
import shlex
from pathlib import Path

import pytest

from ssmrl.cli import main

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(), re.DOTALL)
EXAMPLES = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [  # of each block: it stands for itself, its commands go on from each other
    [shlex.split(line, comments=True) for line in code.splitlines()]
    for language, code in BLOCKS
    if language == "bash"
]
OURS = [[words[1:] for words in block] for block in COMMANDS if block[0][0] == "ssmrl"]
SMALL = {
    "train": [
        "total_steps=256",
        "agent.num_envs=4",
        "agent.rollout=16",
        "agent.minibatches=2",
        "agent.encoder=[8]",
        "agent.head=[8]",
        "memory.features=8",
        "memory.layers=1",
        "eval_episodes=4",
    ],
    "resume": ["total_steps=512"],
    "eval": ["episodes=8"],
    "bench": ["T=4", "B=2", "P=4", "repetitions=1"],
}


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs(code):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("block", OURS, ids=lambda block: " ".join(block[0][:2]))
def test_the_commands_of_a_block_run_in_their_order(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for words in block:
        small = ["eval_episodes=4"] if "experiment=r2i_smoke" in words else SMALL.get(words[0], [])
        given = {option.split("=")[0] for option in small}
        kept = [word for word in words if word.split("=")[0] not in given]
        assert main([*kept, *small]) == 0, capsys.readouterr().err
        if words[0] == "report":
            out = next((w[4:] for w in words if w.startswith("out=")), f"runs/{words[1]}/report")
            assert (tmp_path / out / "curve.png").exists()
            assert (tmp_path / out / "table.md").exists()


def test_every_command_is_shown():
    shown = {words[0] for block in OURS for words in block}
    assert shown >= {"train", "resume", "eval", "report", "list", "inspect"}


def test_all_other_commands_are_scripts_that_a_test_or_a_user_just_ran():
    others = {words[0] for block in COMMANDS for words in block if words[0] != "ssmrl"}
    assert others == {"scripts/train.sh", "scripts/test.sh"}  # test_packaging.py runs the first
