# Sourced by the other scripts: makes .venv and installs what they need, once per change of the lock.
# Needs bash and a Python 3.11 or newer; PYTHON=... chooses one.

repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$repository/.venv"

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "Moorage needs Python 3.11 or newer, and none was found. Install one, or name it: PYTHON=/path/to/python3 $0" >&2
  exit 1
}

make_venv() {
  local python
  if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python="$(find_python)" || exit 1
    echo "making $venv with $("$python" --version)" >&2
    rm -rf "$venv"
    if ! "$python" -m venv "$venv" >&2; then
      rm -rf "$venv"
      echo "The virtual environment could not be made. On Debian and Ubuntu: apt-get install python3-venv" >&2
      exit 1
    fi
  fi
}

# install demo | install dev
install() {
  local stamp="$venv/.moorage-$1" now
  make_venv
  now="$(cat "$repository/pyproject.toml" "$repository/requirements-dev.lock" | cksum) $repository"
  if [ "$(cat "$stamp" 2>/dev/null)" = "$now" ]; then
    return
  fi
  echo "installing what is needed into $venv" >&2
  case "$1" in
    demo) pip_install --constraint "$repository/requirements-dev.lock" boto3 ;;
    dev) pip_install --requirement "$repository/requirements-dev.lock" ;;
  esac
  pip_install --constraint "$repository/requirements-dev.lock" --editable "$repository"
  echo "$now" >"$stamp"
}

pip_install() {
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@" </dev/null >&2 || {
    echo "pip could not install: $*" >&2
    exit 1
  }
}
