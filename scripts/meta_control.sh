#!/usr/bin/env bash
# The committed runs of results/meta_control: several control tasks behind random projections, then
# each task by itself, those of the training and those held out. S5, GRU and no memory, three seeds.
#   scripts/meta_control.sh [STEPS]     steps per seed
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
steps="${1:-4_000_000}"
mkdir -p results/meta_control
for memory in s5 gru mlp; do
  run="meta_control_$memory"
  .venv/bin/ssmrl train experiment=meta_control "memory=$memory" seeds=3 "total_steps=$steps" \
    "name=$run"
  for task in Pendulum PointRobot Reacher Acrobot CartPole MountainCar; do
    split=train
    case "$task" in CartPole | MountainCar) split=held_out ;; esac
    .venv/bin/ssmrl eval "$run" adaptation=true episodes=256 "env_args.split=$split" \
      "env_args.only=$task" "out=results/meta_control/$memory-$task.json"
  done
done
.venv/bin/ssmrl report meta_control_s5 meta_control_gru meta_control_mlp out=results/meta_control
