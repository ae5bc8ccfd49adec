"""The program that makes /scratch, from one boot to the next: in the image's root, with files for disks. Their file
systems are real; what the kernel would show of them is a folder, another one for each file system that was made."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.machine import build
from tests.machine.machine import Image

STAND_INS = {
    "mount": """case $* in
*/dev/*)
    while [ $# -gt 2 ]; do shift; done
    shown=/shown/$(blkid --probe --match-tag UUID --output value "$1")
    [ ! -e "$shown.broken" ] || exit 32
    mkdir -p "$shown" && exec /bin/mount --bind "$shown" "$2" ;;
*) exec /bin/mount "$@" ;;
esac
""",
    # What is on an array is on its first disk. Where there is a file `held`, udev's rules assemble it.
    "mdadm": """case $1 in
--create)
    for word; do
        case $word in
        --name=*) name=${word#*=} ;;
        /dev/nvme*) echo "MD_NAME=any:$name" > "$(readlink -f "$word").member" ;;
        esac
    done
    ln -s /disks/nvme1n1 /dev/md0 ;;
--examine) cat "$(readlink -f "$3").member" ;;
--assemble) [ ! -e /disks/held ] && ln -s /disks/nvme1n1 /dev/md0 ;;
--stop) rm /dev/md* ;;
esac
""",
    "udevadm": """[ -e /disks/held ] || exit 0
ln -s /disks/nvme1n1 /dev/md127
mkdir -p /sys/block/nvme1n1/holders/md127
echo 800000 > /sys/block/nvme1n1/holders/md127/size
""",
}
BOOT = """set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs dev
mknod -m 666 dev/null c 1 3
rm -rf sys/block/*/holders
for disk in disks/nvme*n?; do ln -s "/$disk" dev/; done
chroot . sh -eu -c "$3"
chroot . env "PATH=/stand-ins:$PATH" /usr/libexec/solorun/scratch
chroot . sh -eu -c "$4"
"""
LAYER = "/var/lib/docker/overlay2/abc/diff/program"
RUN = f"mkdir /scratch/run && echo journal > /scratch/run/file && echo container > /var/lib/docker/made && cat {LAYER}"
LOOK = f"cat /scratch/run/file /var/lib/docker/made /scratch/docker/made {LAYER} 2>&1 || true"
AS_IT_WAS = "journal\ncontainer\ncontainer\nlayer\n"


@dataclass(frozen=True)
class Disks:
    """A machine with instance-store disks."""

    root: Path
    folder: Path

    def boot(self, then: str, before: str = ":") -> str:
        """What is said and then printed, when `before`, the program and `then` run at boot."""
        words = ["unshare", "--mount", "sh", "-c", BOOT, "sh", str(self.root), str(self.folder), before, then]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def write(self, path: str, text: str = "") -> None:
        """A file of the machine."""
        file = self.folder / "upper" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def add(self, count: int) -> None:
        """Disks that nobody has written to."""
        for number in range(1, count + 1):
            self.write(f"sys/block/nvme{number}n1/device/model", "Amazon EC2 NVMe Instance Storage\n")
            self.write(f"disks/nvme{number}n1")
            with (self.folder / f"upper/disks/nvme{number}n1").open("wb") as disk:
                disk.truncate(2**30)


@pytest.fixture
def disks(image: Image) -> Iterator[Disks]:
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=build.FOLDER) as folder:
        made = Disks(image.root, Path(folder))
        for part in ("upper/shown", "work", "root"):
            (made.folder / part).mkdir(parents=True)
        for name, text in STAND_INS.items():
            made.write(f"stand-ins/{name}", f"#!/bin/sh\n{text}")
            (made.folder / f"upper/stand-ins/{name}").chmod(0o755)
        made.write(LAYER.lstrip("/"), "layer\n")
        made.write("var/lib/docker/overlay2/l/short")
        made.write("var/lib/docker/image/name", "baked in\n")
        yield made


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
def test_a_reboot_keeps_the_run(disks: Disks, count: int, held: bool) -> None:
    """The file system of the boot before is mounted, whoever puts its array together, and Docker's data are there."""
    disks.add(count)
    first = disks.boot(RUN)
    assert "mounted at /scratch" in first
    assert first.endswith("layer\n")
    if held:
        disks.write("disks/held")
    again = disks.boot(LOOK)
    assert "what was there before the reboot is kept" in again
    assert again.endswith(AS_IT_WAS)


def test_what_is_not_ours_is_made_anew(disks: Disks) -> None:
    """A disk with somebody else's file system, and one with ours that cannot be mounted any more, become /scratch."""
    disks.add(1)
    assert "kept" not in disks.boot(RUN, before="mkfs.xfs -q -L theirs /disks/nvme1n1")
    again = disks.boot(LOOK, before="for shown in /shown/*-*; do touch $shown.broken; done")
    assert "/dev/nvme1n1 mounted at /scratch" in again
    assert "journal" not in again


def test_a_disk_of_the_images_own_keeps_dockers_data(disks: Disks) -> None:
    """Where /scratch is mounted already, Docker's data of the boot before are used again, not the root disk's."""
    mounted = "mkdir -p /shown/own && mount --bind /shown/own /scratch"
    assert disks.boot(RUN, before=mounted).endswith("layer\n")
    assert disks.boot(LOOK, before=mounted).endswith(AS_IT_WAS)


def test_a_copy_that_was_cut_off_is_begun_anew(disks: Disks) -> None:
    """What the boot before could not finish of Docker's data is not taken for them."""
    disks.add(1)
    disks.boot("mv /scratch/docker /scratch/docker.new && rm -r /scratch/docker.new/image")
    assert disks.boot("cat /var/lib/docker/image/name; ls /scratch").endswith("baked in\ndocker\n")
