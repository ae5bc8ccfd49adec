"""The metadata service: who the machine is, and whether containers hear it too."""

from __future__ import annotations

import http.client
import socket
from typing import Final
from urllib.parse import urlsplit

from agent.contract import ContractError
from agent.doctor.facts import Instance
from agent.metadata import MetadataService, read_pointer

_IP_MINTTL: Final = 21
"""linux/in.h; Python has no name for it."""
_CONTAINERS_HOPS: Final = 2
_ANSWER_S: Final = 1.5


def look_at_instance(endpoint: str) -> Instance:
    """What the metadata service says.

    Raises:
        MetadataUnavailable: it does not answer.
    """
    with MetadataService(endpoint, timeout=_ANSWER_S, attempts=2) as metadata:
        instance_id = metadata.instance_id()
        pointer, problem = None, None
        try:
            pointer = read_pointer(metadata)
        except ContractError as error:
            problem = str(error)
        return Instance(
            instance_id=instance_id,
            instance_type=metadata.instance_type(),
            region=metadata.region(),
            role=metadata.role(),
            two_hops=token_reaches(endpoint, _CONTAINERS_HOPS),
            pointer=pointer,
            pointer_problem=problem,
        )


def token_reaches(endpoint: str, hops: int, within_s: float = _ANSWER_S) -> bool:
    """Whether a token's answer may travel so many hops, as far as `within_s` seconds of waiting tell.

    The hop limit is the answer's IP time to live. A container is one hop behind its machine, so what arrives here
    with a time to live below 2 never gets there: the kernel is asked to drop it, as the bridge would. No container
    and no privilege is needed for that.
    """
    parts = urlsplit(endpoint)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=within_s)
    try:
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, hops)
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        connection.request("PUT", parts.path.rstrip("/") + "/latest/api/token", headers=headers)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
