#!/usr/bin/env bash
# Runs a command that boots machines (tests/machine): as root, with what that needs. `machine.sh COMMAND ARGUMENT…`
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

if [[ $(uname -s) != Linux ]]; then
    die "machines are booted by Linux only, and this is $(uname -s)" \
        "Without them: make test-unit test-integration"
fi

missing=()
has mmdebstrap || missing+=(mmdebstrap)
has systemd-nspawn || missing+=(systemd-container)
has ip || missing+=(iproute2)
has iptables || missing+=(iptables)
[[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || missing+=(debian-archive-keyring)
if [[ " $* " == *" tests/virtual "* ]]; then
    has qemu-system-x86_64 || missing+=(qemu-system-x86)
    has qemu-img || missing+=(qemu-utils)
    has busybox || missing+=(busybox-static)
    has cpio || missing+=(cpio)
    has depmod || missing+=(kmod)
    has mke2fs || missing+=(e2fsprogs)
fi
if ((${#missing[@]})); then apt_install "${missing[@]}"; fi

if ((EUID != 0)); then say "Machines are booted with root's rights: asking sudo"; fi
# What a container without privileges refuses even to root.
if ! said=$(as_root unshare --mount --pid --net --fork mount -t tmpfs tmpfs /mnt 2>&1); then
    die "no machine can be booted here, as root may make no namespaces and mounts: $(tail -n 1 <<< "$said")" \
        "It takes root on a Linux computer of your own, or a container with all privileges." \
        "Without machines: make test-unit test-integration"
fi
as_root env "PATH=$PATH" "$@"
