#!/usr/bin/env bash
# The committed runs of results/hieros_<task>, three seeds each: one level and two levels on
# small tasks; on the memory task one level with S5 and with a GRU of as many parameters.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
compare() {  # NAME OVERRIDE...
  local task="$1" runs=() run
  shift
  for levels in 1 2; do
    run="hieros_${task}_$levels"
    .venv/bin/ssmrl train experiment=hieros_small "$@" "agent.levels=$levels" seeds=3 "name=$run"
    runs+=("$run")
  done
  .venv/bin/ssmrl report "${runs[@]}" "out=results/hieros_$task"
}
compare cartpole
images=(agent.gamma=0.99 agent.length=16 agent.train_ratio=32 agent.imagined_starts=64 agent.horizon=9
  agent.decoder_scale=30 agent.cont_scale=1 agent.rep_scale=0.1 agent.entropy_coef=1e-2
  agent.model_lr=2e-3)  # a few pixels that are on
compare catch env=gymnax/Catch-bsuite total_steps=30_000 "${images[@]}"
compare deepsea env=gymnax/DeepSea-bsuite env_args.size=8 total_steps=60_000 "${images[@]}"
chain=(env=gymnax/MemoryChain-bsuite stop_at_return=0.95 seeds=3
  agent.levels=1 agent.num_envs=16 agent.rollout=16 agent.train_ratio=24
  agent.prefill=4_000 agent.groups=4 agent.classes=4 agent.bins=41 agent.bin_limit=1
  agent.critic_limit=1 agent.decoder_scale=1 agent.cont_scale=1
  agent.dyn_scale=0.1 agent.rep_scale=0.02 agent.imagined_starts=256 agent.horizon=8
  agent.model_lr=2e-3 agent.entropy_coef=1e-3)  # as r2i_memory_chain
gru=(memory=gru memory.features=54 memory.layers=1 memory.norm=none memory.activation=none)
runs=()
remember() {  # LENGTH OVERRIDE...
  local memory cell run
  for memory in s5 gru; do
    [ "$memory" = gru ] && cell=("${gru[@]}") || cell=()
    run="hieros_memory_${memory}_$1"
    .venv/bin/ssmrl train experiment=hieros_small "${chain[@]}" "env_args.memory_length=$1" \
      "${@:2}" ${cell[@]+"${cell[@]}"} "name=$run"
    runs+=("$run")
  done
}
remember 10 total_steps=200_000 agent.length=48 agent.reward_scale=10 agent.gamma=0.95
remember 30 total_steps=300_000 agent.length=96 agent.reward_scale=30 agent.gamma=0.97
remember 50 total_steps=300_000 agent.length=128 agent.reward_scale=50 agent.gamma=0.98
.venv/bin/ssmrl report "${runs[@]}" out=results/hieros_memory
