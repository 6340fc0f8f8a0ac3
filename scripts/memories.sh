#!/usr/bin/env bash
# The committed results of every memory, and docs/memories.md from them: the benchmark of each, and
# three seeds of 0.5 M steps on RepeatPreviousEasy. A few hours on 2 cores; names as arguments run
# those alone and leave the others' results as they are.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
if [ $# -gt 0 ]; then names=("$@"); else mapfile -t names < <(.venv/bin/ssmrl list memories); fi
mkdir -p results/memories
for name in "${names[@]}"; do
  .venv/bin/ssmrl bench memory "only=$name" "json=results/memories/$name.bench.json"
  .venv/bin/ssmrl train "memory=$name" seeds=3 total_steps=500000 stop_at_return=null \
    "name=memories_$name"
  .venv/bin/ssmrl report "memories_$name" "out=results/memories/$name"
done
.venv/bin/python scripts/memory_table.py
