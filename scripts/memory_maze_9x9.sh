#!/usr/bin/env bash
# The committed run on pictures of Memory Maze; 20 minutes to an hour on 2 cores. Fresh episodes
# are played with the policy's own chance: its most probable action alone walks into walls.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
.venv/bin/ssmrl train experiment=memory_maze_9x9 name=memory_maze_9x9
.venv/bin/ssmrl eval memory_maze_9x9 episodes=128 greedy=false parallel=64 \
  out=results/memory_maze_9x9/fresh_sampled.json
.venv/bin/ssmrl report memory_maze_9x9 out=results/memory_maze_9x9
