#!/usr/bin/env bash
# What `make` needs on this machine: Docker, and .venv with exactly what requirements.lock names.
#
# Says what it installs before it does, and installs only what is missing. A second run takes well under a second.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

python=${PYTHON:-python3}

check_python() {
    has "$python" || die "no $python on PATH" "Python 3.11 or newer is needed: sudo apt install python3 python3-venv"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die \
        "$("$python" --version 2>&1) is too old: Python 3.11 or newer is needed" \
        "Debian 12 and Ubuntu 24.04 have it as python3. Elsewhere install one beside yours, and name it:" \
        "  make $* PYTHON=python3.11"
}

missing_packages() { # GOAL…
    # Debian leaves these two modules out of python3.
    "$python" -c 'import ensurepip, venv' 2> /dev/null \
        || "$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
    has git || echo git
    # A client alone will do where it reaches a daemon (DOCKER_HOST, Docker Desktop).
    if ! has dockerd && ! docker info > /dev/null 2>&1; then echo docker.io; fi
    if [[ " $* " == *" test"* ]]; then missing_for_tests; fi
}

missing_for_tests() {
    # The machine image's template is built over ssh.
    has ssh || echo openssh-client
    if has packer; then return; fi
    if grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release; then
        echo packer
    else
        say "There is no Packer here, and only Debian 12 has a package of it: the build of the machine image will NOT be" \
            "tested. To have it tested: developer.hashicorp.com/packer/install"
    fi
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    if ((${#missing[@]})); then apt_install "${missing[@]}"; fi
}

install_python() {
    local wanted stamp=.venv/.set-up
    wanted=$(cat requirements.lock pyproject.toml | sha256sum)
    if [[ -x .venv/bin/python && -f $stamp && $(< "$stamp") == "$wanted" ]] && .venv/bin/python -c ''; then return; fi
    say "Setting up .venv from requirements.lock"
    # A Python that went away leaves a .venv that does not start: it is made anew.
    if ! .venv/bin/python -c '' 2> /dev/null; then "$python" -m venv --clear .venv; fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    printf '%s\n' "$wanted" > "$stamp"
}

check_python "$@"
install_packages "$@"
install_python
