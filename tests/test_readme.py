"""Every command and every example of the README runs; long ones at a small size."""

import re
import shlex
from pathlib import Path

import pytest

from ssmrl.cli import main

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README.read_text(), re.DOTALL)
EXAMPLES = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [
    shlex.split(line, comments=True)
    for language, code in BLOCKS
    if language == "bash"
    for line in code.splitlines()
]
SMALL = {
    "train": [
        "total_steps=256",
        "agent.num_envs=4",
        "agent.rollout=16",
        "agent.minibatches=2",
        "memory.features=8",
        "eval_episodes=4",
    ],
    "resume": ["total_steps=512"],
    "eval": ["episodes=8"],
    "bench": ["T=32", "B=2", "P=4", "repetitions=1"],
}


@pytest.mark.parametrize("code", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs(code):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})


def test_the_commands_run_in_their_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ours = [words[1:] for words in COMMANDS if words[0] == "ssmrl"]
    assert {words[0] for words in ours} >= {"train", "resume", "eval", "report", "list", "inspect"}
    for words in ours:
        small = ["eval_episodes=4"] if "experiment=r2i_smoke" in words else SMALL.get(words[0], [])
        given = {option.split("=")[0] for option in small}
        kept = [word for word in words if word.split("=")[0] not in given]
        assert main([*kept, *small]) == 0, capsys.readouterr().err
    assert (tmp_path / "runs/first/report/curve.png").exists()
    assert (tmp_path / "both/table.md").exists()


def test_all_other_commands_are_scripts_that_a_test_or_a_user_just_ran():
    others = {words[0] for words in COMMANDS if words and words[0] != "ssmrl"}
    assert others == {"scripts/train.sh", "scripts/test.sh"}  # test_packaging.py runs the first
