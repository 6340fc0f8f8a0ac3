#!/usr/bin/env bash
# The committed comparison of results/hieros_grid: one level, two levels, two levels without a
# reward for subgoals, random subgoals, and two levels with one world model; three seeds each.
#   scripts/hieros_grid.sh [KEY=VALUE ...]    e.g. total_steps=50_000
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
declare -A arms=(
  [one_level]="agent.levels=1"
  [two_levels]="agent.levels=2"
  [no_subgoal_reward]="agent.subgoal_weight=0"
  [random_top]="agent.random_top=true"
  [shared_model]="agent.shared_model=true"
)
runs=()
for arm in one_level two_levels no_subgoal_reward random_top shared_model; do
  run="hieros_grid_$arm"
  .venv/bin/ssmrl train experiment=hieros_grid "${arms[$arm]}" seeds=3 "name=$run" "$@"
  runs+=("$run")
done
.venv/bin/ssmrl report "${runs[@]}" threshold=0.9 out=results/hieros_grid
