"""Starts a virtual machine in the network of the booted machines."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.machine.fabric import GATEWAY, Fabric
from tests.machine.machine import metadata_of
from tests.machine.namespaces import ip
from tests.virtual.disk import Bootable

_MEMORY_MB: Final = 4096
_STORE_SIZE: Final = "20G"


@dataclass
class Virtual:
    """A virtual machine that runs, or has ended."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def console(self) -> str:
        """What it said on its serial port."""
        return (self.folder / "console.log").read_text(errors="replace")

    def wait_off(self, *, within: float) -> None:
        """Wait until it has turned itself off.

        Raises:
            AssertionError: it is still on, or QEMU failed.
        """
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still on after {within:.0f} s\n{self.console[-3000:]}") from None
        assert code == 0, f"QEMU: exit {code}\n{self.console[-3000:]}"


@contextmanager
def virtual(
    bootable: Bootable,
    fabric: Fabric,
    folder: Path,
    *,
    user_data: bytes | None = None,
    store: Sequence[Path] = (),
    script: str = "",
) -> Iterator[Virtual]:
    """A virtual machine that boots, and of which nothing is left afterwards.

    Args:
        bootable: its kernel and root disk; they are not changed.
        fabric: the network it is in.
        folder: for its disks and its console; removed at the end.
        user_data: as given to EC2.
        store: its instance-store disks, made by `store_disks`; they are kept.
        script: what is started in place of systemd.
    """
    name = f"v{secrets.token_hex(4)}"
    home = folder / name
    home.mkdir(parents=True)
    address = fabric.address()
    told = metadata_of(f"i-{secrets.token_hex(8)}", address, user_data, 2)
    fabric.machines[address] = lambda: told
    ip(fabric.pid, *f"tuntap add {name} mode tap".split())
    ip(fabric.pid, *f"link set {name} master br0 up".split())
    try:
        disks = [_disk(home / "root.qcow2", "-b", str(bootable.disk), "-F", "raw")]
        disks += store
        with (home / "console.log").open("wb") as console:
            process = subprocess.Popen(
                [
                    "nsenter",
                    "--target",
                    str(fabric.pid),
                    "--net",
                    *_qemu(bootable, name, address, disks, script),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Virtual(process, home)
        finally:
            if process.poll() is None:
                os.kill(process.pid, 9)  # nsenter has become QEMU
                process.wait(30)
    finally:
        ip(fabric.pid, "link", "delete", name)
        fabric.machines.pop(address, None)
        shutil.rmtree(home)


def store_disks(folder: Path, count: int) -> list[Path]:
    """Instance-store disks that nobody has written to."""
    return [_disk(folder / f"store{number}.qcow2", size=_STORE_SIZE) for number in range(count)]


def _disk(path: Path, *options: str, size: str = "") -> Path:
    words = ["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), *([size] if size else [])]
    subprocess.run(words, check=True, capture_output=True)
    return path


def _qemu(bootable: Bootable, name: str, address: str, disks: list[Path], script: str) -> list[str]:
    told = f"solorun.address={address}/16 solorun.gateway={GATEWAY}"
    if script:
        told += f" solorun.script={script}"
    words = [
        # No KVM: it is rarely there where tests run, and where it seems to be it may hang.
        *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"),
        *("-m", str(_MEMORY_MB), "-nographic", "-no-reboot"),
        *("-kernel", str(bootable.kernel), "-initrd", str(bootable.ramdisk)),
        *("-append", f"console=ttyS0 panic=-1 edd=off net.ifnames=0 quiet {told}"),
        *("-netdev", f"tap,id=net,ifname={name},script=no,downscript=no"),
        *("-device", "virtio-net-pci,netdev=net,romfile="),
    ]
    for number, disk in enumerate(disks):
        words += ["-drive", f"file={disk},if=none,id=d{number},format=qcow2,cache=unsafe"]
        words += ["-device", f"nvme,serial=disk{number},drive=d{number}"]
    return words
