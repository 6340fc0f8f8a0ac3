#!/usr/bin/env bash
# The committed runs of results/meta_*: agents that learn within a trial, three seeds each,
# with fresh tasks afterwards. Names as arguments run those alone: bandit cart_pole
# dark_room tabular_mdp t_maze, the last with R2I.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
if [ $# -gt 0 ]; then names=("$@"); else names=(bandit cart_pole dark_room tabular_mdp t_maze); fi

# compare NAME "MEMORIES" [EVAL OPTIONS]: train with every memory, play fresh trials, draw
compare() {
  local name="$1" memory runs=() experiment="meta_$1"
  [ "$name" = t_maze ] && experiment=r2i_t_maze
  for memory in $2; do
    .venv/bin/ssmrl train "experiment=$experiment" "memory=$memory" seeds=3 "name=meta_${name}_$memory"
    .venv/bin/ssmrl eval "meta_${name}_$memory" adaptation=true episodes=1024 "${@:3}"
    runs+=("meta_${name}_$memory")
  done
  .venv/bin/ssmrl report "${runs[@]}" "out=results/meta_$name"
}

# cart_pole NAME "MEMORIES" OVERRIDE...: train on 16 episodes a trial, play 32, draw
cart_pole() {
  local memory run runs=()
  for memory in $2; do
    run="meta_cart_pole_$1_$memory"
    .venv/bin/ssmrl train experiment=meta_cart_pole "memory=$memory" seeds=3 "${@:3}" "name=$run"
    .venv/bin/ssmrl eval "$run" adaptation=true episodes=512 env_args.pay=steps env_args.episodes=32
    runs+=("$run")
  done
  .venv/bin/ssmrl report "${runs[@]}" "out=results/meta_cart_pole/$1"
}

for name in "${names[@]}"; do
  case "$name" in
    bandit) compare bandit "s5 gru mlp" ;;
    tabular_mdp) compare tabular_mdp s5 ;;
    cart_pole)
      cart_pole steps "s5 gru mlp"
      cart_pole falls "gru mlp" env_args.pay=falls total_steps=10_000_000
      ;;
    *) compare "$name" "s5 mlp" ;;
  esac
done
