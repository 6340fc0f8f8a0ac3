#!/usr/bin/env bash
# The committed runs of results/meta_*: agents that learn within a trial, three seeds each,
# with fresh tasks afterwards. Names as arguments run those alone: bandit cart_pole dark_room
# pendulum tabular_mdp t_maze, the last with R2I.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
all=(bandit cart_pole dark_room pendulum tabular_mdp t_maze)
if [ $# -gt 0 ]; then names=("$@"); else names=("${all[@]}"); fi

runs=()

# play RUN EXPERIMENT MEMORY "EVAL OPTIONS" [OVERRIDE ...]: train, then play fresh trials
play() {
  .venv/bin/ssmrl train "experiment=$2" "memory=$3" seeds=3 "${@:5}" "name=$1"
  .venv/bin/ssmrl eval "$1" adaptation=true $4
  runs+=("$1")
}

# draw OUT: what was played since the last drawing, into results/OUT
draw() {
  .venv/bin/ssmrl report "${runs[@]}" "out=results/$1"
  runs=()
}

# compare OUT EXPERIMENT MEMORY ...: each memory with the settings of the experiment
compare() {
  local memory
  for memory in "${@:3}"; do play "$1_$memory" "$2" "$memory" episodes=1024; done
  draw "$1"
}

# twice the trained length, in the published return
beyond="episodes=512 env_args.pay=steps env_args.episodes=32"

for name in "${names[@]}"; do
  case "$name" in
    bandit) compare meta_bandit meta_bandit s5 gru mlp ;;
    tabular_mdp) compare meta_tabular_mdp meta_tabular_mdp s5 ;;
    cart_pole)
      play meta_cart_pole_steps_s5 meta_cart_pole s5 "$beyond"
      for memory in gru mlp; do
        play "meta_cart_pole_steps_$memory" meta_cart_pole "$memory" "$beyond" \
          total_steps=20_000_000 agent.entropy_coef=0.06
      done
      draw meta_cart_pole/steps
      play meta_cart_pole_falls_gru meta_cart_pole gru "$beyond" \
        total_steps=20_000_000 agent.entropy_coef=0.15 env_args.pay=falls
      draw meta_cart_pole/falls
      ;;
    pendulum)
      for memory in s5 gru mlp; do
        play "meta_pendulum_$memory" meta_pendulum "$memory" "episodes=512 env_args.episodes=8"
      done
      draw meta_pendulum
      ;;
    t_maze) compare meta_t_maze r2i_t_maze s5 mlp ;;
    dark_room) compare meta_dark_room meta_dark_room s5 mlp ;;
    *) echo "unknown run '$name'; one of: ${all[*]}" >&2; exit 2 ;;
  esac
done
