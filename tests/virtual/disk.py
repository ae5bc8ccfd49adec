"""The root disk of a virtual machine: the image of the booted machine, and a kernel for it."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.machine import build
from tests.machine.fabric import AWS_PORT, GATEWAY
from tests.machine.machine import Image

_KERNEL: Final = "linux-image-cloud-amd64"
_INIT: Final = Path(__file__).with_name("init")
_MODULES: Final = ("fs/ext4", "fs/jbd2", "fs/mbcache.ko", "drivers/nvme", "crypto", "lib", "block", "arch")
"""What the initial ramdisk needs until the root disk is mounted."""
_SIZE: Final = "8G"
_MODELS: Final = (
    'echo "Amazon EC2 NVMe Instance Storage" > /run/model;'
    " for model in /sys/class/nvme/nvme[1-9]/model; do"
    " [ ! -e $model ] || mount --bind /run/model $model; done"
)
SCRIPT: Final = "/usr/local/sbin/try-scratch"
"""Started in place of systemd: /scratch is made with udev at work, looked at, written to, and the machine is reset."""
_ROOT: Final = {
    "etc/hostname": "virtual\n",
    "etc/hosts": "127.0.0.1 localhost virtual\n",
    "etc/machine-id": "",
    "etc/fstab": "/dev/nvme0n1 / ext4 defaults 0 1\n",
    "etc/resolv.conf": "# nobody to ask: the answer is no, at once\n",
    "etc/solorun/run-agent.env": f"AWS_ENDPOINT_URL=http://{GATEWAY}:{AWS_PORT}\n",
    "etc/systemd/journald.conf.d/console.conf": "[Journal]\nForwardToConsole=yes\nMaxLevelConsole=info\n",
    # QEMU's disks have a model of their own; on EC2 it says which are the instance's.
    "etc/systemd/system/scratch.service.d/model.conf": (f"[Service]\nExecStartPre=/bin/sh -c '{_MODELS}'\n"),
    SCRIPT.lstrip("/"): f"""#!/bin/sh
exec > /dev/console 2>&1 < /dev/null
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
{_MODELS}
/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add
/usr/libexec/solorun/scratch
echo found: $(cat /scratch/run /var/lib/docker/of-an-earlier-boot) "$(stat -f -c %T /scratch)"
echo journal > /scratch/run
echo container > /var/lib/docker/of-an-earlier-boot
sync
echo b > /proc/sysrq-trigger
""",
}


@dataclass(frozen=True)
class Bootable:
    """What QEMU starts a machine from."""

    kernel: Path
    ramdisk: Path
    disk: Path
    """Raw, never written to."""


def bootable(image: Image) -> Bootable:
    """Made of the image, where it is not there yet (about a minute)."""
    folder = build.FOLDER
    kernel = build.kept(folder, "kernel", [_KERNEL, _INIT, *_MODULES], _make_kernel)
    assert image.docker is not None
    sources: list[str | Path] = [image.root.name, image.docker.name, kernel.name, str(_ROOT), Path(__file__)]
    disk = build.kept(folder, "disk", sources, lambda made: _make_disk(made, image, kernel))
    return Bootable(kernel / "vmlinuz", kernel / "ramdisk", disk / "root.img")


def _make_kernel(made: Path) -> None:
    made.mkdir()
    package = _run("apt-cache", "depends", "--important", _KERNEL).split("Depends: ")[1].split()[0]
    _run(*build.APT_GET.split(), "download", "-o", "APT::Sandbox::User=root", package, cwd=made)
    _run("dpkg-deb", "--extract", str(next(made.glob("*.deb"))), str(made / "tree"))
    modules = next((made / "tree/lib/modules").iterdir())
    _run("depmod", "--basedir", str(made / "tree"), modules.name)
    shutil.copy(next((made / "tree/boot").glob("vmlinuz-*")), made / "vmlinuz")
    (made / "ramdisk").write_bytes(_ramdisk(made / "ramdisk.d", modules))


def _ramdisk(tree: Path, modules: Path) -> bytes:
    own = tree / "lib/modules" / modules.name
    for folder in ("bin", "proc", "sys", "dev", "root"):
        (tree / folder).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin")
    shutil.copy(_INIT, tree / "init")
    (tree / "init").chmod(0o755)
    for part in _MODULES:
        source, target = modules / "kernel" / part, own / "kernel" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.exists():
            shutil.copy(source, target)
    _run("depmod", "--basedir", str(tree), modules.name)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet"],
        input=names.encode(),
        cwd=tree,
        capture_output=True,
        check=True,
    )
    return gzip.compress(packed.stdout, 1)


def _make_disk(made: Path, image: Image, kernel: Path) -> None:
    made.mkdir()
    root = made / "root"
    _run("cp", "-a", str(image.root), str(root))
    _run("cp", "-a", f"{kernel}/tree/lib/modules", str(root / "lib/modules"))
    shutil.rmtree(root / "var/lib/docker", ignore_errors=True)
    _run("cp", "-a", str(image.docker), str(root / "var/lib/docker"))
    # The one thing in the image that is for a system in a container.
    (root / "etc/systemd/system/docker.service.d/10-container.conf").unlink()
    for path, text in _ROOT.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / SCRIPT.lstrip("/")).chmod(0o755)
    wants = root / "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    wants.symlink_to("/lib/systemd/system/systemd-networkd.service")
    _run("mke2fs", "-q", "-t", "ext4", "-d", str(root), str(made / "root.img"), _SIZE)
    shutil.rmtree(root)


def _run(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words[:3])}… failed: {done.stderr[-2000:]}")
    return done.stdout
