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
_UNITS: Final = "/usr/lib/systemd/system"


@dataclass(frozen=True)
class Package:
    """A package of the repository."""

    name: str
    files: dict[str, str] = field(default_factory=dict)
    """By path: what is in them."""
    links: dict[str, str] = field(default_factory=dict)


PACKAGES: Final = (
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
    *(
        Package(name)
        for name in ("system-release", "python3.12-pip", "mdadm", "xfsprogs", "fuse3", "mount-s3")
    ),
)

_OS_RELEASE: Final = 'NAME="Amazon Linux"\nVERSION="2023"\nID="amzn"\nID_LIKE="fedora"\nVERSION_ID="2023"\n'
_REPOSITORY: Final = "[amazonlinux]\nname=Amazon Linux 2023\nbaseurl=file:///srv/$releasever\ngpgcheck=0\n"
_INSTALL: Final = f"""set -e
    mount -t overlay overlay -o lowerdir=$1,upperdir=$2/upper,workdir=$2/work $2/root
    mount -t proc proc $2/root/proc
    mount --bind /etc/resolv.conf $2/root/etc/resolv.conf
    export DEBIAN_FRONTEND=noninteractive
    chroot $2/root {build.APT_GET} update
    chroot $2/root {build.APT_GET} install -y --no-install-recommends dnf python3-dnf rpm createrepo-c
    printf '%s' "$3" > $2/root/srv/packages.spec
    chroot $2/root rpmbuild --quiet -bb --define "_rpmdir /srv/$4" /srv/packages.spec
    chroot $2/root createrepo_c --quiet /srv/$4
    # Its version says which release an image is of.
    chroot $2/root rpm --install --nodeps /srv/$4/noarch/system-release-$4-1.noarch.rpm
    rm $2/root/etc/os-release
    printf '%s' "$5" > $2/root/etc/os-release
    echo 'Amazon Linux release 2023 (Amazon Linux)' > $2/root/etc/system-release
    mkdir -p $2/root/etc/yum.repos.d
    printf '%s' "$6" > $2/root/etc/yum.repos.d/amazonlinux.repo
"""


def amazon() -> Image:
    """What such a machine is started from; it has none of the roles."""
    words = (_spec(), RELEASEVER, _OS_RELEASE, _REPOSITORY)

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
