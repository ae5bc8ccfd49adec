#!/usr/bin/env bash
# What `make` needs on this machine: .venv with exactly what requirements.lock names, and Docker for what uses it.
# `setup.sh GOAL…`, as they were given to make.
#
# Says what it installs before it does, and installs only what is missing. A second run takes well under a second.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

python=${PYTHON:-python3}
with_docker='setup images bundle demo test test-integration test-machine test-virtual machine bench'
with_ssh='ami ami-follow test test-machine test-image'
with_packer='test test-machine'

any_of() { # "GOAL…" GOAL…: whether one of these goals is among the first
    local named=" $1 " goal
    shift
    for goal; do
        if [[ $named == *" $goal "* ]]; then return; fi
    done
    return 1
}

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
    if any_of "$with_docker" "$@" && ! has dockerd && ! docker info > /dev/null 2>&1; then echo docker.io; fi
    if any_of "$with_ssh" "$@" && ! has ssh; then echo openssh-client; fi
    if any_of "$with_packer" "$@" && ! has packer; then missing_packer; fi
}

missing_packer() {
    if grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release; then
        echo packer
    else
        say "There is no Packer here, and only Debian 12 has a package of it: the build of the machine image will NOT be" \
            "tested. To have it tested: developer.hashicorp.com/packer/install"
    fi
}

install_packages() {
    local missing=() package
    # Not mapfile: the bash of macOS has none.
    while IFS= read -r package; do missing+=("$package"); done < <(missing_packages "$@")
    if ((${#missing[@]})); then apt_install "${missing[@]}"; fi
}

install_python() {
    local wanted stamp=.venv/.set-up
    # Not sha256sum: macOS has none before 15.
    wanted=$(cat requirements.lock pyproject.toml | cksum)
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
