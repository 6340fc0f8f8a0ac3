#!/usr/bin/env bash
# The committed runs of results/r2i: three seeds of each CPU preset with S5, and of the memory
# tasks with a GRU and without memory in the same place. Names of presets as arguments run those
# alone. About two hours on 2 cores.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
presets=("$@")
[ $# -gt 0 ] || presets=(r2i_cpu r2i_memory_chain r2i_cartpole r2i_pendulum)
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
  .venv/bin/ssmrl report "${runs[@]}" "out=results/r2i/$preset"
done
