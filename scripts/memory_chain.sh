#!/usr/bin/env bash
# The committed runs of results/memory_chain: remember one cue for 10, 100 and 500 steps.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
runs=()
for length in 10 100 500; do
  rollout=$((length < 100 ? 104 : length + 4))  # no shorter than the memory
  run="memory_chain_$length"
  .venv/bin/ssmrl train experiment=memory_chain "env_args.memory_length=$length" \
    "agent.rollout=$rollout" "name=$run"
  runs+=("$run")
done
.venv/bin/ssmrl report "${runs[@]}" threshold=0.95 out=results/memory_chain
