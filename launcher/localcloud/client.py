"""Talking to the supervisor of a local cloud that is up."""

from __future__ import annotations

import http.client
import json
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from launcher.errors import CloudError, UserError
from launcher.localcloud.control import CONTROL, TOKEN_HEADER, MachineReport
from launcher.localcloud.state import LocalCloudState

_TIMEOUT_S: Final = 30.0


class ControlClient:
    """The supervisor's own requests."""

    def __init__(self, state: LocalCloudState) -> None:
        self._state = state

    def machines(self) -> list[MachineReport]:
        """Every machine since the local cloud's start.

        Raises:
            CloudError: the server does not answer, or is another one.
        """
        status, answer = self._ask("GET", "machines")
        if status != http.HTTPStatus.OK or answer.get("cloud_id") != self._state.cloud_id:
            raise self._trouble(f"HTTP {status}: {answer}")
        return [MachineReport.model_validate(item) for item in answer["machines"]]

    def interrupt(self, instance_id: str, seconds: int) -> datetime:
        """Give a machine the Spot notice.

        Returns:
            When it is terminated, in UTC.

        Raises:
            UserError: the machine does not run any more.
            CloudError: the server does not answer.
        """
        status, answer = self._ask("POST", f"machines/{instance_id}/interrupt/{seconds}")
        if status == http.HTTPStatus.NOT_FOUND:
            raise UserError(f"The machine {instance_id} does not run any more")
        if status != http.HTTPStatus.OK:
            raise self._trouble(f"HTTP {status}: {answer}")
        return datetime.fromisoformat(answer["ends_at"])

    def _ask(self, method: str, what: str) -> tuple[int, dict[str, Any]]:
        address = urlsplit(self._state.endpoint_url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, CONTROL + what, headers={TOKEN_HEADER: self._state.control_token})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._trouble(str(error) or repr(error)) from error
        finally:
            connection.close()

    def _trouble(self, what: str) -> CloudError:
        return CloudError(
            f"The local cloud (pid {self._state.pid}) does not answer as it should: {what}",
            hint=f"Its log is {self._state.log}; `launcher local down` ends it",
        )
