#!/usr/bin/env bash
# The committed runs of results/original_popgym: RepeatPreviousEasy as the popgym package has it
# and as our port has it, each policy then played on the other. A few minutes on 2 cores.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment "[popgym]"
original=gymnasium/popgym-RepeatPreviousEasy-v0
port=popgym/RepeatPreviousEasy
out=results/original_popgym
.venv/bin/ssmrl train "env=$original" stop_at_return=0.97 name=original_popgym
.venv/bin/ssmrl train "env=$port" stop_at_return=0.97 name=port_of_popgym
.venv/bin/ssmrl report original_popgym port_of_popgym threshold=0.95 "out=$out"
.venv/bin/ssmrl eval original_popgym "env=$port" episodes=256 "out=$out/trained_on_original.json"
.venv/bin/ssmrl eval port_of_popgym "env=$original" episodes=256 "out=$out/trained_on_port.json"
