#!/usr/bin/env bash
# The committed runs of results/meta_*: agents that learn within a trial, three seeds each,
# with fresh tasks afterwards. Names as arguments run those alone: bandit cart_pole dark_room
# tabular_mdp t_maze, the last with R2I.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
if [ $# -gt 0 ]; then names=("$@"); else names=(bandit cart_pole dark_room tabular_mdp t_maze); fi

# compare OUT EXPERIMENT "MEMORIES" "OVERRIDES" "EVAL OPTIONS": train with every memory, play fresh
# trials, draw into results/OUT
compare() {
  local memory run runs=()
  for memory in $3; do
    run="${1//\//_}_$memory"
    .venv/bin/ssmrl train "experiment=$2" "memory=$memory" seeds=3 $4 "name=$run"
    .venv/bin/ssmrl eval "$run" adaptation=true $5
    runs+=("$run")
  done
  .venv/bin/ssmrl report "${runs[@]}" "out=results/$1"
}

# twice the trained length, in the published return
beyond="episodes=512 env_args.pay=steps env_args.episodes=32"

for name in "${names[@]}"; do
  case "$name" in
    bandit) compare meta_bandit meta_bandit "s5 gru mlp" "" episodes=1024 ;;
    tabular_mdp) compare meta_tabular_mdp meta_tabular_mdp s5 "" episodes=1024 ;;
    cart_pole)
      compare meta_cart_pole/steps meta_cart_pole "s5 gru mlp" "" "$beyond"
      compare meta_cart_pole/falls meta_cart_pole gru \
        "env_args.pay=falls agent.entropy_coef=0.15" "$beyond"
      ;;
    t_maze) compare meta_t_maze r2i_t_maze "s5 mlp" "" episodes=1024 ;;
    dark_room) compare meta_dark_room meta_dark_room "s5 mlp" "" episodes=1024 ;;
    *) echo "unknown run '$name'; one of: bandit cart_pole dark_room tabular_mdp t_maze" >&2; exit 2 ;;
  esac
done
