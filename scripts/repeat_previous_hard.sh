#!/usr/bin/env bash
# The committed comparison of results/popgym_repeat_previous_hard: S5, GRU and no memory, three
# seeds each, 6 M steps. About half an hour on 2 cores.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
runs=()
for memory in s5 mlp gru; do
  run="repeat_previous_hard_$memory"
  .venv/bin/ssmrl train experiment=popgym_repeat_previous_hard "memory=$memory" seeds=3 "name=$run"
  runs+=("$run")
done
.venv/bin/ssmrl report "${runs[@]}" threshold=0.9 out=results/popgym_repeat_previous_hard
