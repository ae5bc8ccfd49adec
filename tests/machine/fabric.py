"""The network that machines are in: a bridge with a gateway, the metadata service, and AWS. Nothing leads out of it."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Final

from werkzeug.serving import make_server

from launcher.localcloud.metadata_service import MetadataServer, Question
from launcher.localcloud.metadata_values import InstanceMetadata
from launcher.localcloud.moto_server import moto_application
from tests.machine.namespaces import inside, ip, listen, network, within

GATEWAY: Final = "10.77.0.1"
METADATA: Final = "169.254.169.254"
AWS_PORT: Final = 4566


@dataclass
class Fabric:
    """A network with its services."""

    pid: int
    """The process that holds its network namespace."""
    machines: dict[str, Callable[[], InstanceMetadata | None]] = field(default_factory=dict)
    """Who tells the metadata service what it says, by address."""
    _last: int = 1
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint_url(self) -> str:
        """AWS, as machines see it."""
        return f"http://{GATEWAY}:{AWS_PORT}"

    def address(self) -> str:
        """An address that no machine had before."""
        with self._lock:
            self._last += 1
            return f"10.77.{self._last // 250}.{self._last % 250 + 2}"

    def connect(self, pid: int, address: str) -> str:
        """Give the network namespace of a process an eth0 with `address`; the bridge's end of it has the name given."""
        port = f"m{pid}"
        ip(self.pid, *f"link add {port} type veth peer name eth0 netns {pid}".split())
        ip(self.pid, *f"link set {port} master br0 up".split())
        ip(pid, "link", "set", "lo", "up")
        ip(pid, *f"addr add {address}/16 dev eth0".split())
        ip(pid, "link", "set", "eth0", "up")
        ip(pid, *f"route add default via {GATEWAY}".split())
        return port

    def ports(self) -> list[str]:
        """The bridge's ends of the machines' interfaces; the kernel removes one a little after its machine's end."""
        links = json.loads(within(self.pid, "ip", "-json", "link", "show", "master", "br0"))
        return [link["ifname"] for link in links]

    def _identify(self, address: str, path: str) -> Question | None:
        tell = self.machines.get(address)
        asker = tell() if tell else None
        return Question(asker, path) if asker else None


@contextmanager
def _moto(listening: socket.socket) -> Iterator[None]:
    """The moto that serves this process."""
    server = make_server(GATEWAY, AWS_PORT, moto_application(), threaded=True, fd=listening.fileno())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        listening.close()


@contextmanager
def fabric(
    serve: Callable[[socket.socket], AbstractContextManager[None]] = _moto,
) -> Iterator[Fabric]:
    """A network with the metadata service, and with AWS.

    Args:
        serve: answers as AWS on a socket that listens, for the duration, and closes it.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with network() as pid:
        for words in (
            "link add br0 type bridge",
            f"addr add {GATEWAY}/16 dev br0",
            f"addr add {METADATA}/32 dev br0",
            "link set br0 up",
        ):
            ip(pid, *words.split())
        made = Fabric(pid)
        listening = inside(pid, lambda: listen(METADATA, 80))
        aws = inside(pid, lambda: listen(GATEWAY, AWS_PORT))
        with MetadataServer(listening, made._identify), serve(aws):
            yield made
