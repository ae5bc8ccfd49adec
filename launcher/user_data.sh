# shellcheck shell=sh
# Brings the agent to a machine whose image has none. cloud-init runs this at the machine's first boot, as root; the
# lines above say from where. It leaves everything to an agent that is on the image, or was brought before.
set -u
umask 022
export LC_ALL=C
home=/opt/solorun
draft=/opt/solorun.new

say() {
    echo "solorun: $*"
}

power_off() {
    systemctl poweroff || shutdown -P now || poweroff -f
}

fail() { # REASON: told on the console and in S3; the machine costs nothing any more
    reason="The agent could not be brought to this machine: $*"
    say "$reason The machine is turned off."
    { echo "solorun: $reason The machine is turned off." > /dev/console; } 2> /dev/null
    send_report "$reason" > /dev/null 2>&1
    power_off
    exit 1
}

send_report() {
    if has curl; then
        curl --silent --max-time 20 --request PUT --header 'Content-Type: text/plain' --data-binary "$1" "$REPORT_URL"
    elif has wget; then
        wget --quiet --tries=1 --timeout=20 --output-document=/dev/null --method=PUT --body-data="$1" "$REPORT_URL"
    else
        python3 -c 'import sys, urllib.request as u
u.urlopen(u.Request(sys.argv[2], sys.argv[1].encode(), method="PUT"), timeout=20)' "$1" "$REPORT_URL"
    fi
}

has() {
    command -v "$1" > /dev/null 2>&1
}

# Two timers of systemd's, the second one while a shutdown hangs: whatever becomes of this script, the machine is off.
arm() {
    systemd-run --quiet --unit=bring-limit --on-active="$LIMIT_S" --timer-property=AccuracySec=1s \
        sh -c 'echo "solorun: the agent was not brought in time, the machine is turned off" > /dev/console
               systemctl poweroff' &&
        systemd-run --quiet --unit=bring-limit-force --on-active=$((LIMIT_S + 45)) \
            --timer-property=AccuracySec=1s --timer-property=DefaultDependencies=no --property=DefaultDependencies=no \
            systemctl poweroff --force --force
}

disarm() {
    systemctl stop bring-limit.timer bring-limit-force.timer
}

fetch() { # URL FILE
    if has curl; then
        curl --fail --silent --show-error --location --retry 5 --connect-timeout 10 --output "$2" "$1"
    elif has wget; then
        wget --no-verbose --tries=5 --timeout=30 --output-document="$2" "$1"
    else
        python3 -c 'import sys, urllib.request as u; u.urlretrieve(sys.argv[1], sys.argv[2])' "$1" "$2"
    fi
}

missing() { # what of the image's minimum is not there
    for program in docker gzip sha256sum shutdown tar; do
        has "$program" || echo " $program"
    done
    has curl || has wget || has python3 || echo ' curl'
}

if systemctl --quiet is-enabled run-agent.service 2> /dev/null; then
    say 'this machine has its agent already'
    exit 0
fi
if ! arm; then
    shutdown -P +5
    fail 'it has no systemd that runs timers.'
fi
absent=$(missing | tr -d '\n')
if [ -n "$absent" ]; then
    fail "the machine image has no$absent. It needs Docker, started at boot, and these programs."
fi
if [ "$(uname -m)" != "$MACHINE" ]; then
    fail "its processor is $(uname -m), and the agent that was sent is for $MACHINE."
fi

say 'fetching the agent'
rm -rf "$draft"
mkdir -p "$draft"
if ! said=$(fetch "$AGENT_URL" "$draft/agent.tar.gz" 2>&1); then
    fail "it could not be fetched from the work bucket ($said). Does the subnet have a way to S3?"
fi
if ! echo "$AGENT_SHA256  $draft/agent.tar.gz" | sha256sum --check --status; then
    fail "what was fetched from the work bucket has another checksum than $AGENT_SHA256."
fi
if ! said=$(tar -xzf "$draft/agent.tar.gz" -C "$draft" --no-same-owner 2>&1); then
    fail "it could not be unpacked ($said)."
fi
rm "$draft/agent.tar.gz"
rm -rf "$home"
mv "$draft" "$home"
if ! said=$("$home/venv/bin/run-agent" --version 2>&1); then
    fail "it does not run on this system ($said). It needs glibc 2.31 or newer."
fi
if ! said=$(sh "$home/install.sh" 2>&1); then
    fail "its units could not be installed ($said)."
fi
# The agent's own timers are armed by now.
disarm
say "the agent is here: $said"
