#!/usr/bin/env bash
# The committed runs of results/meta_control: several control tasks behind random projections, then
# fresh trials of those trained on and of those held out. S5, GRU and no memory, three seeds.
#   scripts/meta_control.sh [STEPS]     steps per seed
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
steps="${1:-8_000_000}"
mkdir -p results/meta_control
for memory in s5 gru mlp; do
  run="meta_control_$memory"
  .venv/bin/ssmrl train experiment=meta_control "memory=$memory" seeds=3 "total_steps=$steps" \
    "name=$run"
  .venv/bin/ssmrl eval "$run" adaptation=true episodes=256
  .venv/bin/ssmrl eval "$run" adaptation=true episodes=192 env_args.split=brax_held_out \
    "out=results/meta_control/$memory-held_out.json"
done
.venv/bin/ssmrl report meta_control_s5 meta_control_gru meta_control_mlp out=results/meta_control
.venv/bin/python scripts/meta_control_table.py
