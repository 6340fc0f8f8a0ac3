"""The command line: exit codes, messages, and what each command prints."""

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from ssmrl.cli import COMMANDS, main


@pytest.fixture
def ssmrl(capsys):
    def call(*arguments):
        code = main(arguments)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "unknown command 'trian'; nearest: 'train'"),
        (["train", "sed=1"], "nearest: 'seed'"),
        (["resume"], "usage: ssmrl resume RUN"),
        (["resume", "nothing"], "no run at 'nothing'"),
        (["eval", "a", "b"], "usage: ssmrl eval RUN"),
        (["eval", "a", "episods=3"], "unknown configuration key 'episods'; nearest: 'episodes'"),
        (["report", "a", "thresh=3"], "nearest: 'threshold'"),
        (["report"], "usage: ssmrl report RUN..."),
        (["list"], "usage: ssmrl list envs|agents|memories|experiments"),
        (["list", "env"], "nearest: 'envs'"),
        (["inspect"], "usage: ssmrl inspect RUN"),
        (["inspect", "memory=s6"], "unknown memory 's6'; nearest: 's5'"),
        (["inspect", "memory=s5", "memory.stat=2"], "nearest: 'state'"),
        (["inspect", "memory=s5", "state=2"], "only memory.<option>=..."),
        (["inspect", "agent=nobody"], "unknown agent 'nobody'"),
        (["inspect", "experiment=smoke"], "unknown thing to inspect"),
        (["bench", "scn"], "unknown benchmark 'scn'; nearest: 'scan'"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(ssmrl, arguments, said):
    code, out, err = ssmrl(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("ssmrl: ") and said in err and err.count("\n") == 1


def test_help_lists_every_command_without_loading_jax():
    check = "import sys, ssmrl.cli; ssmrl.cli.main(['--help']); sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_a_mistake_of_a_whole_process_shows_no_traceback():
    command = [sys.executable, "-m", "ssmrl", "train", "memory=s6"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["ssmrl: unknown memory 's6'; nearest: 's5', 's4', 'smr'"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(ssmrl, command):
    code, out, _ = ssmrl(command, "--help")
    assert code == 0 and out.startswith(f"usage: ssmrl {command} ")


def test_names_are_listed_one_a_line(ssmrl):
    assert "popgym/RepeatPreviousEasy" in ssmrl("list", "envs")[1].splitlines()
    assert {"s5", "gru", "mlp"} <= set(ssmrl("list", "memories")[1].splitlines())
    assert "in_context" in ssmrl("list", "agents")[1].splitlines()
    assert "smoke" in ssmrl("list", "experiments")[1].splitlines()


def test_an_environment_is_inspected(ssmrl):
    code, out, _ = ssmrl("inspect", "env=fake/RandomLength", "env_args.long=3")
    assert code == 0
    assert "Discrete(3)" in out and "Box(1,)" in out
    mean = float(out.split("return ")[1].split(" ")[0])
    assert abs(mean - 2) < 0.2


def test_a_memory_is_inspected(ssmrl):
    _, small, _ = ssmrl("inspect", "memory=s5", "memory.features=8", "memory.state=8")
    assert "memory.state" in small and "8  (int)" in small
    assert "64 bytes for each environment" in small  # 2 layers x 4 complex64


def test_an_agent_is_inspected(ssmrl):
    lines = ssmrl("inspect", "agent=in_context")[1].splitlines()
    assert ["agent.learning_rate", "0.001", "(float)"] in [line.split() for line in lines]


def test_a_run_is_inspected_evaluated_and_reported(ssmrl, runner):
    runner.train("name=mine", "seeds=2")
    assert "update 40, 400 of 400 steps" in ssmrl("inspect", "mine")[1]

    code, out, err = ssmrl("eval", "mine", "episodes=5", "greedy=false", "env_args.pay=action")
    assert code == 0, err
    assert "sampled, 5 episodes of each seed, update 40" in out
    saved = json.loads(Path("runs/mine/report/eval.json").read_text())
    assert saved["return_per_seed"] == [2.0, 2.0] and saved["env_args"] == {"pay": "action"}
    assert "episodes: expected int" in ssmrl("eval", "mine", "episodes=x")[2]
    assert "at least 1" in ssmrl("eval", "mine", "episodes=0")[2]

    code, out, _ = ssmrl("report", "mine", "out=elsewhere", "threshold=0.5")
    assert code == 0 and "elsewhere/curve.png" in out and "steps to it" in out


def test_a_benchmark_gets_its_options_and_its_rows_are_shown_and_saved(ssmrl, monkeypatch):
    def run(size=1):
        return [{"what": "ours", "ms": 1.5 * size}, {"what": "theirs", "ratio": 3.0}]

    monkeypatch.setitem(sys.modules, "ssmrl.bench.scan", types.SimpleNamespace(run=run))
    code, out, _ = ssmrl("bench", "scan", "size=2", "json=rows.json")
    assert code == 0 and "3.000" in out and "theirs" in out
    assert json.loads(Path("rows.json").read_text()) == run(2)
    assert "unknown option 'sise'; nearest: 'size'" in ssmrl("bench", "scan", "sise=2")[2]
