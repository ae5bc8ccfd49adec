# Sourced by the other scripts: words to the person, root's rights where they are needed, and apt.
# shellcheck shell=bash

# Debian keeps daemons where a person's PATH does not look.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() {
    local mark='•'
    if [[ -t 2 ]]; then mark=$'\033[1m•\033[0m'; fi
    printf '%s %s\n' "$mark" "$*" >&2
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    shift
    if (($#)); then printf '  %s\n' "$@" >&2; fi
    exit 1
}

has() {
    command -v "$1" > /dev/null
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        die "root's rights are needed for: $*" "There is no sudo here: run this as root, or do that step as root first."
    fi
}

# apt_install PACKAGE…: says what is installed, and installs it; where there is no apt, prints the commands.
apt_install() {
    if ! has apt-get; then
        die "missing on this machine, and there is no apt to install it with: $*" \
            "Install the same with your system's package manager, for example:" \
            "  Fedora:  sudo dnf install python3 moby-engine mmdebstrap" \
            "  Arch:    sudo pacman -S python docker debootstrap" \
            "then run make again."
    fi
    say "Installing with apt: $*"
    local said
    if ! said=$(apt_get update -qq 2>&1 && apt_get install -y -qq --no-install-recommends "$@" 2>&1); then
        die "apt could not install: $*" "$(tail -n 5 <<< "$said")"
    fi
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "$1" -o Acquire::Retries=3 "${@:2}"
}
