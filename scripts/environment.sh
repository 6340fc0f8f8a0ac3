# Sourced by the scripts beside it: makes .venv at the top of the checkout and installs ssmrl
# with the tested versions, or does nothing where that has been done already.
#   ensure_environment EXTRAS    EXTRAS: "" or e.g. "[dev]"

ensure_environment() {
  local extras="$1" root python stamp wanted
  root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  cd "$root" || exit 1
  python="${PYTHON:-python3}"
  if [ ! -x .venv/bin/python ]; then
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "ssmrl needs Python 3.11 or later as '$python'; set PYTHON to one" >&2
      exit 2
    fi
    echo "making .venv ..."
    "$python" -m venv .venv || exit 2
  fi
  stamp=".venv/.ssmrl$extras"
  wanted="$(cat pyproject.toml constraints.txt | cksum)"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing ssmrl$extras (about a minute the first time) ..."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
      -c constraints.txt -e ".$extras" || exit 2
    echo "$wanted" > "$stamp"
  fi
}
