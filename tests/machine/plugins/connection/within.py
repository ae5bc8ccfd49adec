"""Ansible's way into a process's namespaces: a root that a process holds open (chroot), or a booted machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: within
short_description: Execute in the namespaces of a process on this computer
description: By nsenter(1), and chroot(1) where a root is given.
author: solorun
options:
  pid:
    description: The process, as this computer numbers it.
    type: int
    required: true
    vars:
      - name: within_pid
  root:
    description: A folder in the process's mount namespace that becomes the root; none for a booted machine.
    type: str
    default: ""
    vars:
      - name: within_root
"""


class Connection(ConnectionBase):  # type: ignore[misc]  # Ansible is not typed
    """One process's namespaces."""

    transport = "within"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def close(self) -> None:
        """Nothing stays open."""
        self._connected = False

    def _enter(self) -> list[str]:
        pid, root = self.get_option("pid"), self.get_option("root")
        if not Path(f"/proc/{pid}").exists():
            raise AnsibleConnectionFailure(f"process {pid} is gone")
        enter = ["nsenter", "--target", str(pid), "--mount", "--pid"]
        return [*enter, "chroot", root] if root else [*enter, "--uts", "--ipc", "--net", "--cgroup"]

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        """Run `cmd` by a shell."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        clean = [
            "env",
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME=/root",
        ]
        words = [*self._enter(), *clean, "LC_ALL=C.UTF-8", "/bin/sh", "-c", cmd]
        done = subprocess.run(words, input=in_data or b"", capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file in."""
        with Path(in_path).open("rb") as file:
            done: Any = subprocess.run(
                [*self._enter(), "dd", f"of={out_path}", "bs=1M", "status=none"],
                stdin=file,
                capture_output=True,
                check=False,
            )
        if done.returncode != 0:
            raise AnsibleConnectionFailure(f"{in_path} could not be copied: {done.stderr.decode()}")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file out."""
        with Path(out_path).open("wb") as file:
            process = subprocess.Popen([*self._enter(), "cat", in_path], stdout=subprocess.PIPE)
            assert process.stdout is not None
            shutil.copyfileobj(process.stdout, file)
        if process.wait() != 0:
            raise AnsibleConnectionFailure(f"{in_path} could not be read")
