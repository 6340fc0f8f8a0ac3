#!/usr/bin/env bash
# The committed runs on Memory Maze: from what a picture tells in numbers, with a memory and
# without one, and from pictures (20 minutes to an hour on 2 cores). From pictures fresh episodes
# are played with the policy's own chance: its most probable action alone walks into walls.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
for memory in s5 mlp; do
  .venv/bin/ssmrl train experiment=memory_maze_9x9_state "memory=$memory" seeds=3 \
    "name=memory_maze_9x9_state_$memory"
done
.venv/bin/ssmrl report memory_maze_9x9_state_s5 memory_maze_9x9_state_mlp \
  out=results/memory_maze_9x9_state
.venv/bin/ssmrl train experiment=memory_maze_9x9 name=memory_maze_9x9
.venv/bin/ssmrl eval memory_maze_9x9 episodes=128 greedy=false parallel=64 \
  out=results/memory_maze_9x9/fresh_sampled.json
.venv/bin/ssmrl report memory_maze_9x9 out=results/memory_maze_9x9
