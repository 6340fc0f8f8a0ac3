#!/usr/bin/env bash
# Sets everything up if need be and runs the checks and the tests. With arguments, pytest alone:
#   scripts/test.sh tests/memory -k reset
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment "[dev]"
if [ $# -gt 0 ]; then
  exec .venv/bin/python -m pytest "$@"
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports
exec .venv/bin/python -m pytest -n 2 --dist worksteal
