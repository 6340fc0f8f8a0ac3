#!/usr/bin/env bash
# Sets everything up if need be and trains: scripts/train.sh [overrides], e.g.
#   scripts/train.sh memory=gru seeds=3
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment ""
exec .venv/bin/ssmrl train "$@"
