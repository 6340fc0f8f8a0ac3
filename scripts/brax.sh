#!/usr/bin/env bash
# The committed runs of results/brax_inverted_pendulum: a continuous task of brax with S5 and with
# no memory, three seeds of 1 M steps each. About ten minutes on 2 cores.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
runs=()
for memory in s5 mlp; do
  run="brax_inverted_pendulum_$memory"
  .venv/bin/ssmrl train experiment=brax_inverted_pendulum "memory=$memory" seeds=3 "name=$run"
  runs+=("$run")
done
.venv/bin/ssmrl report "${runs[@]}" threshold=900 out=results/brax_inverted_pendulum
