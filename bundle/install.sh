#!/bin/sh
# What the agent bundle does on a machine, once it is in /opt/solorun: programs and units get to their places, the
# dead-man's switch is armed, the agent starts. The user data's script calls it (launcher/user_data.sh).
set -eu
umask 022
cd /opt/solorun

(cd system && find . -type f) | while read -r file; do
    mode=644
    if [ -x "system/$file" ]; then mode=755; fi
    install -D -m "$mode" "system/$file" "/${file#./}"
done
# The run's folder is there. Where the image mounts a fast disk at /scratch, it is on that.
mkdir -p /scratch
# Where SELinux is enforced, programs and units need the labels of their new places.
if command -v restorecon > /dev/null; then
    restorecon -R /opt/solorun /usr/libexec/solorun /etc/systemd/system /etc/solorun || true
fi

systemctl daemon-reload
# The caps first: from here on the machine ends without anybody's help.
systemctl start machine-cap.timer machine-cap-force.timer
# Then the next boot; this is also what says that the machine has its agent.
xargs systemctl --quiet enable < units
systemctl start --no-block run-agent.service
