"""Configuration: what composes, and what every kind of mistake is answered with."""

import pytest
from omegaconf import OmegaConf

from ssmrl import memory
from ssmrl.agents import AGENTS
from ssmrl.configs.compose import load, plain, reload
from ssmrl.configs.schema import options, shipped
from ssmrl.errors import UsageError
from ssmrl.run.trained import build_agent


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["totl_steps=5"], "unknown configuration key 'totl_steps'; nearest: 'total_steps'"),
        (["agent.learning_rat=1"], "nearest: 'agent.learning_rate'"),
        (["memory.stat=1"], "nearest: 'memory.state'"),
        (["memory=gru", "memory.state=64"], "unknown configuration key 'memory.state'"),
        (["total_steps.x=1"], "unknown configuration key 'total_steps.x'"),
        (["seeds=many"], "seeds: expected int, got 'many' of type str"),
        (["total_steps=1.5"], "total_steps: expected int, got 1.5"),
        (["agent.anneal=2.5"], "agent.anneal: expected bool, got 2.5"),
        (["agent.encoder=8"], "agent.encoder: expected tuple[int, ...], got 8"),
        (["agent.encoder=[wide]"], "agent.encoder: expected tuple[int, ...], got ['wide']"),
        (["agent.value_clip=big"], "agent.value_clip: expected float | None, got 'big'"),
        (["seed=null"], "seed: expected int, got None"),
        (["memory=gruu"], "unknown memory 'gruu'; nearest: 'gru', 'rg_lru', 'lru'"),
        (["agent=in_contxt"], "unknown agent 'in_contxt'; nearest: 'in_context'"),
        (["experiment=smok"], "unknown experiment 'smok'; nearest: 'smoke'"),
        (["env=popgym/RepeatPreviousEas"], "nearest: 'popgym/RepeatPreviousEasy'"),
        (["env_args.kk=3"], "unknown setting of popgym/RepeatPreviousEasy 'kk'; nearest: 'k'"),
        (["seeds"], "malformed override 'seeds': expected key=value"),
        (["=3"], "malformed override '=3'"),
        (["~seeds"], "malformed override '~seeds'"),
        (["name=it's"], "malformed override"),
        (["seed=1,2"], "gives several values"),
        (["seed=1", "seed=2"], "'seed' is given twice"),
        (["memory.name=gru"], "choose it by memory=NAME"),
        (["total_steps=-1"], "total_steps: expected at least 1, got -1"),
        (["seeds=0"], "seeds: expected at least 1, got 0"),
        (["seed=-1"], "seed: expected at least 0, got -1"),
        (["keep_checkpoints=0"], "keep_checkpoints: expected at least 1, got 0"),
        (["memory.layers=0"], "layers >= 1"),
    ],
)
def test_a_mistake_is_named(overrides, said):
    with pytest.raises(UsageError) as error:
        load(overrides)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_without_overrides_s5_learns_repeat_previous():
    config = load([])
    assert (config.agent.name, config.memory.name) == ("in_context", "s5")
    assert config.env == "popgym/RepeatPreviousEasy"
    assert 0.95 <= config.stop_at_return < 1


@pytest.mark.parametrize("name", memory.MEMORIES)
def test_the_options_of_a_memory_are_those_that_it_declares(name):
    values = plain(load([f"memory={name}"]))["memory"]
    assert values.pop("name") == name
    assert values == {option: default for option, (_, default) in memory.options(name).items()}


@pytest.mark.parametrize("name", [name for name in AGENTS if name != "fake"])
def test_the_options_of_an_agent_are_those_that_it_declares(name):
    config = load([f"agent={name}", "total_steps=12345"])
    values = plain(config)["agent"]
    assert values.pop("name") == name
    assert values.pop("total_steps") == 12345
    assert (
        values.items() <= {o: default for o, (_, default) in options("agent", name).items()}.items()
    )


def test_every_agent_and_memory_has_a_file():
    assert set(shipped("memory")) == set(memory.MEMORIES)
    assert set(shipped("agent")) == set(AGENTS) - {"fake"}


@pytest.mark.parametrize("experiment", shipped("experiment"))
def test_a_preset_composes_with_what_is_tuned_for_it_and_gives_an_agent(experiment):
    for name in memory.MEMORIES:
        if name == "gru" or f"{experiment}_{name}" in shipped("tuned"):
            assert load([f"experiment={experiment}", f"memory={name}"]).memory.name == name
    build_agent(load([f"experiment={experiment}", "memory=mlp", "memory.features=8"]))


def test_every_memory_composes_with_a_preset():
    for name in memory.MEMORIES:
        assert load(["experiment=smoke", f"memory={name}"]).memory.name == name


def test_the_tuning_of_one_memory_stays_with_it():
    assert load(["experiment=popgym_repeat_previous_hard"]).memory.state == 128
    assert "state" not in load(["experiment=popgym_repeat_previous_hard", "memory=gru"]).memory
    assert load(["experiment=smoke", "memory.state=8"]).memory.state == 8


def test_environment_options_need_no_plus_sign():
    config = load(["env=gymnax/MemoryChain-bsuite", "env_args.memory_length=7"])
    assert plain(config)["env_args"] == {"memory_length": 7}


def test_a_million_may_be_written_1e6():
    assert load(["total_steps=1e6"]).total_steps == 1_000_000


def test_another_environment_drops_the_return_to_stop_at():
    assert load(["env=popgym/AutoencodeEasy"]).stop_at_return is None
    assert load(["env=popgym/AutoencodeEasy", "stop_at_return=0.5"]).stop_at_return == 0.5


def test_a_saved_configuration_comes_back_the_same(tmp_path):
    config = load(["experiment=memory_chain", "env_args.memory_length=9", "name=x"])
    OmegaConf.save(config, tmp_path / "config.yaml")
    assert plain(reload(tmp_path / "config.yaml")) == plain(config)
    longer = reload(tmp_path / "config.yaml", ["total_steps=77"])
    assert longer.agent.total_steps == 77


@pytest.mark.parametrize("override", ["memory.layers=3", "seed=1", "env=popgym/AutoencodeEasy"])
def test_a_run_that_goes_on_keeps_its_experiment(tmp_path, override):
    OmegaConf.save(load([]), tmp_path / "config.yaml")
    with pytest.raises(UsageError, match=r"cannot change.*only total_steps"):
        reload(tmp_path / "config.yaml", [override])


@pytest.mark.parametrize("text", ["", "agent: 3", "a: [", "agent: {name: in_context}"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UsageError, match="is not the configuration of a run"):
        reload(tmp_path / "config.yaml")


def test_a_configuration_with_an_option_that_is_gone_is_refused(tmp_path):
    config = OmegaConf.create(plain(load([])))
    config.memory.magic = 3
    OmegaConf.save(config, tmp_path / "config.yaml")
    with pytest.raises(UsageError, match=r"does not fit this version.*magic"):
        reload(tmp_path / "config.yaml")
