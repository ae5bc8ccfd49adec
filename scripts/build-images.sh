#!/usr/bin/env bash
# Builds the container images of Nextflow's head and of the demo's tools, where they are missing or their sources
# changed. `--force` builds them anyway (to try the plugins again on a better network). Needs a running Docker.
# `--cpython` makes the image that only holds the Python of `make bundle`, too.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/common.sh
. scripts/common.sh

base=solorun/base:bookworm
demo_tools=solorun/demo-tools:1
python=${PYTHON:-python3}
# One place for each fact: the launcher's catalog names the image that runs will ask for.
nextflow=$("$python" -c 'from launcher.catalog import NEXTFLOW_IMAGE; print(NEXTFLOW_IMAGE)')
version=${nextflow##*:}
log=$(mktemp)
trap 'rm -f "$log"; rm -f containers/*/certificates/*.crt' EXIT

content_of() { # FOLDER: a checksum over what the image is built from
    find "$1" -type f ! -path '*/certificates/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c 1-16
}

is_built() { # IMAGE CONTENT
    [[ $(docker image inspect --format '{{index .Config.Labels "solorun.content"}}' "$1" 2> /dev/null) == "$2" ]]
}

ensure_base() {
    if docker image inspect "$base" > /dev/null 2>&1; then return; fi
    say "Pulling Debian bookworm as the base of the images"
    if timeout 180 docker pull --quiet debian:bookworm-slim > "$log" 2>&1; then
        docker tag debian:bookworm-slim "$base"
        return
    fi
    say "No image registry can be reached ($(tail -n 1 "$log" | cut -c 1-120)): making the base with mmdebstrap"
    local missing=()
    has mmdebstrap || missing+=(mmdebstrap)
    [[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || missing+=(debian-archive-keyring)
    if ((${#missing[@]})); then apt_install "${missing[@]}"; fi
    local id
    id=$(as_root mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Retries "3"' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' bookworm - | docker import - 2> "$log") \
        || die "the base image could not be made" "$(tail -n 3 "$log")"
    docker tag "$id" "$base"
}

build() { # what docker build takes; shows its output only where it fails
    if ! docker build --force-rm --build-arg BASE="$base" "$@" > "$log" 2>&1; then
        tail -n 40 "$log" >&2
        die "docker build failed (above: its last lines)" \
            "It fetches packages from Debian and from Maven Central: can this machine reach them?"
    fi
}

lend_certificates() { # CONTEXT: where a proxy signs anew, the builder must trust what this machine trusts
    cp /usr/local/share/ca-certificates/*.crt "$1/certificates/" 2> /dev/null || true
}

build_nextflow() {
    local content plugins
    content=$(content_of containers/nextflow)
    if [[ $force == no ]] && is_built "$nextflow" "$content"; then return; fi
    ensure_base
    say "Building $nextflow: Nextflow $version from Maven Central, its jars held to checksums (about two minutes)"
    lend_certificates containers/nextflow
    local args=(--build-arg NEXTFLOW_VERSION="$version")
    build "${args[@]}" --target core containers/nextflow

    plugins=$(paste -sd, containers/nextflow/plugins.txt)
    # A build that fails must not leave its container behind.
    if docker build --force-rm --build-arg BASE="$base" "${args[@]}" --build-arg PLUGINS="$plugins" --target plugins \
        containers/nextflow > "$log" 2>&1; then
        say "Nextflow's plugins are in the image: $plugins"
    else
        say "Nextflow's plugins are NOT in the image: $(grep -m 1 -a ERROR "$log" || echo 'they could not be had')"
        say "Without them a pipeline cannot read s3:// paths itself, nor use Wave and Fusion; local files and the" \
            "results that the agent carries to S3 work. On another network: make images FORCE=--force"
        plugins=""
    fi
    build "${args[@]}" --build-arg PLUGINS="$plugins" --build-arg CONTENT="$content" --tag "$nextflow" containers/nextflow
}

build_demo_tools() {
    local content
    content=$(content_of containers/demo-tools)
    if [[ $force == no ]] && is_built "$demo_tools" "$content"; then return; fi
    ensure_base
    say "Building $demo_tools: bwa, samtools and bcftools for the demo pipeline (about half a minute)"
    build --build-arg CONTENT="$content" --tag "$demo_tools" containers/demo-tools
}

build_cpython() {
    local content image=solorun/cpython:3.12
    content=$(content_of containers/cpython)
    if [[ $force == no ]] && is_built "$image" "$content"; then return; fi
    ensure_base
    say "Fetching the agent's Python for both processors from Maven Central, held to checksums (about a minute)"
    lend_certificates containers/cpython
    build --build-arg CONTENT="$content" --tag "$image" containers/cpython
}

force=no cpython=no
for option in "$@"; do
    case $option in
    --force) force=yes ;;
    --cpython) cpython=yes ;;
    *) die "unknown option $option" ;;
    esac
done
build_nextflow
build_demo_tools
if [[ $cpython == yes ]]; then build_cpython; fi
