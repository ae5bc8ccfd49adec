"""A machine that takes itself for Amazon Linux 2023: its name, the dnf that it has (4.14), and a repository of packages
with its packages' names. They hold no programs, only what the roles touch: units, settings, links."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.machine import build
from tests.machine.machine import Image

RELEASEVER: Final = "2023.12.20260930"
_SERVICE: Final = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
_SOCKET: Final = "[Socket]\nListenStream=/run/docker.sock\n[Install]\nWantedBy=sockets.target\n"
_TIMER: Final = "[Timer]\nOnActiveSec=1d\n[Install]\nWantedBy=timers.target\n"
_UNITS: Final = "/usr/lib/systemd/system"
_AT_BOOT: Final = "/etc/systemd/system/timers.target.wants"


@dataclass(frozen=True)
class Package:
    """A package of the repository."""

    name: str
    files: dict[str, str] = field(default_factory=dict)
    """By path: what is in them."""
    links: dict[str, str] = field(default_factory=dict)


ON_THE_SOURCE: Final = (
    Package("system-release"),
    Package(
        "update-motd",
        {f"{_UNITS}/update-motd.service": _SERVICE, f"{_UNITS}/update-motd.timer": _TIMER},
        {f"{_AT_BOOT}/update-motd.timer": f"{_UNITS}/update-motd.timer"},
    ),
    # A rule of udev's enables and starts the timer for each network interface.
    Package(
        "amazon-ec2-net-utils",
        {
            f"{_UNITS}/refresh-policy-routes@.service": _SERVICE,
            f"{_UNITS}/refresh-policy-routes@.timer": _TIMER,
        },
        {f"{_AT_BOOT}/refresh-policy-routes@ens5.timer": f"{_UNITS}/refresh-policy-routes@.timer"},
    ),
)
"""What Amazon's image has already: two of them with a timer that is active since boot."""
PACKAGES: Final = (
    *ON_THE_SOURCE,
    Package("chrony", {f"{_UNITS}/chronyd.service": _SERVICE}),
    Package(
        "docker",
        {
            f"{_UNITS}/docker.service": _SERVICE,
            f"{_UNITS}/docker.socket": _SOCKET,
            # As Amazon's package has it.
            "/etc/sysconfig/docker": 'OPTIONS="--default-ulimit nofile=32768:65536"\n',
        },
    ),
    Package(
        "amazon-cloudwatch-agent",
        {
            f"{_UNITS}/amazon-cloudwatch-agent.service": _SERVICE,
            "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl": "#!/bin/sh\n",
        },
    ),
    Package("python3.12", links={"/usr/bin/python3.12": "python3.11"}),
    Package("mdadm", {f"{_UNITS}/raid-check.service": _SERVICE, f"{_UNITS}/raid-check.timer": _TIMER}),
    *(Package(name) for name in ("python3.12-pip", "xfsprogs", "fuse3", "mount-s3")),
)

_OS_RELEASE: Final = 'NAME="Amazon Linux"\nVERSION="2023"\nID="amzn"\nID_LIKE="fedora"\nVERSION_ID="2023"\n'
_REPOSITORY: Final = "[amazonlinux]\nname=Amazon Linux 2023\nbaseurl=file:///srv/$releasever\ngpgcheck=0\n"
_INSTALL: Final = f"""{build.INSTALL_ON_A_ROOT} dnf python3-dnf rpm createrepo-c
    printf '%s' "$3" > $2/root/srv/packages.spec
    chroot $2/root rpmbuild --quiet -bb --define "_rpmdir /srv/$4" /srv/packages.spec
    chroot $2/root createrepo_c --quiet /srv/$4
    for name in $7; do chroot $2/root rpm --install --nodeps /srv/$4/noarch/$name-$4-1.noarch.rpm; done
    rm $2/root/etc/os-release
    printf '%s' "$5" > $2/root/etc/os-release
    echo 'Amazon Linux release 2023 (Amazon Linux)' > $2/root/etc/system-release
    mkdir -p $2/root/etc/yum.repos.d
    printf '%s' "$6" > $2/root/etc/yum.repos.d/amazonlinux.repo
"""


def amazon() -> Image:
    """What such a machine is started from; it has none of the roles."""
    there = " ".join(package.name for package in ON_THE_SOURCE)
    words = (_spec(), RELEASEVER, _OS_RELEASE, _REPOSITORY, there)

    def make(layer: Path) -> None:
        for part in ("upper", "work", "root"):
            (layer / part).mkdir(parents=True)
        command = ["unshare", "--mount", "sh", "-c", _INSTALL, "sh", str(base), str(layer), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"no machine like Amazon's: {done.stdout[-1000:]}{done.stderr[-2000:]}")

    base = build.bare_root()
    with build.locked(build.FOLDER, "amazon"):
        layer = build.kept(build.FOLDER, "amazon", [base.name, _INSTALL, *words], make)
    return Image(Path(f"{layer}/upper:{base}"), None)


def _spec() -> str:
    """All packages as one source."""
    head = (
        "Name: stand-ins",
        f"Version: {RELEASEVER}",
        "Release: 1",
        "Summary: Stand-ins",
        "License: none",
        "BuildArch: noarch",
    )
    parts = [*head, "AutoReqProv: no", "%description", "Stand-ins."]
    install = ["%install"]
    for package in PACKAGES:
        paths = [*package.files, *package.links]
        parts.append(
            f"%package -n {package.name}\nSummary: Stand-in\n%description -n {package.name}\nStand-in."
        )
        parts.append(
            f"%files -n {package.name}\n" + "".join(f"%attr(755,root,root) {path}\n" for path in paths)
        )
        for path in paths:
            install.append(f"mkdir -p %{{buildroot}}{path.rpartition('/')[0]}")
        for path, text in package.files.items():
            install.append(f"cat > %{{buildroot}}{path} <<'END'\n{text}END")
        install += [f"ln -s {target} %{{buildroot}}{path}" for path, target in package.links.items()]
    return "\n".join([*parts, *install, ""])
