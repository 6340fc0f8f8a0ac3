#!/usr/bin/env bash
# The committed runs of results/r2i: three seeds of each CPU preset with S5, and of the memory
# tasks with a GRU and without memory in the same place. Names of presets as arguments run those
# alone. About an hour on 2 cores.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
presets=("$@")
[ $# -gt 0 ] || presets=(r2i_cpu r2i_memory_chain r2i_cartpole r2i_pendulum)
ppo=(agent.num_envs=16 agent.rollout=128 agent.epochs=10 agent.minibatches=8 agent.gamma=0.9
  agent.anneal=true agent.entropy_coef=0.0 agent.normalize_reward=true
  agent.normalize_observation=true agent.previous_action=false agent.previous_reward=false)
for preset in "${presets[@]}"; do
  case "$preset" in
    r2i_cpu | r2i_memory_chain) memories=(s5 gru mlp) ;;
    *) memories=(s5) ;;
  esac
  runs=()
  for memory in "${memories[@]}"; do
    run="${preset}_$memory"
    .venv/bin/ssmrl train "experiment=$preset" "memory=$memory" seeds=3 "name=$run"
    runs+=("$run")
  done
  if [ "$preset" = r2i_pendulum ]; then  # ten times the steps without a model
    .venv/bin/ssmrl train env=gymnax/Pendulum-v1 memory=mlp total_steps=400_000 seeds=3 \
      "${ppo[@]}" name=ppo_pendulum
    runs+=(ppo_pendulum)
  fi
  .venv/bin/ssmrl report "${runs[@]}" "out=results/r2i/$preset"
done
