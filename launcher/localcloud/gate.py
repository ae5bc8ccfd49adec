"""What stands before moto: lets in known keys only, answers the supervisor's own requests, keeps client tokens.

A WSGI application around another one.
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import re
import threading
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

from launcher.localcloud.control import CONTROL, TOKEN_HEADER
from launcher.localcloud.keys import KeyRing
from launcher.localcloud.moto_server import Application, Environ, StartResponse, body_of
from launcher.localcloud.supervisor import Supervisor

log = logging.getLogger(__name__)

_LONGEST_FORM: Final = 1024**2


class Gate:
    """The local cloud's one front door.

    Args:
        application: moto.
        keys: whose requests are let in.
        supervisor: is woken by every EC2 request, and answers on CONTROL.
        control_token: opens CONTROL.
        cloud_id: told there, so that a client knows whom it talks to.
    """

    def __init__(
        self,
        application: Application,
        keys: KeyRing,
        supervisor: Supervisor,
        control_token: str,
        cloud_id: str,
    ) -> None:
        self._application = application
        self._keys = keys
        self._supervisor = supervisor
        self._control_token = control_token
        self._cloud_id = cloud_id
        self._starting = threading.Lock()
        self._answered: dict[tuple[str, str], _Answer] = {}

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        if path.startswith(CONTROL):
            return self._control(environ, path.removeprefix(CONTROL), start_response)
        key, region, service = _signed_by(environ)
        if not self._keys.knows(key):
            return _refusal(service, environ)(start_response)
        if service != "ec2":
            return self._application(environ, start_response)
        try:
            return self._ec2(environ, region, start_response)
        finally:
            self._supervisor.wake()

    # --- EC2

    def _ec2(self, environ: Environ, region: str, start_response: StartResponse) -> Iterable[bytes]:
        form = _form(environ)
        action = form.get("Action", [""])[0]
        token = form.get("ClientToken", [""])[0]
        if action == "RunInstances" and token:
            return self._run_instances_once(environ, region, token, start_response)
        if action == "GetConsoleOutput":
            console = self._supervisor.console(form.get("InstanceId", [""])[0])
            return _with_console(_Answer.of(self._application, environ), console)(start_response)
        return self._application(environ, start_response)

    def _run_instances_once(
        self, environ: Environ, region: str, token: str, start_response: StartResponse
    ) -> Iterable[bytes]:
        """RunInstances is idempotent by its ClientToken in EC2, and not in moto."""
        with self._starting:
            answer = self._answered.get((region, token))
            if answer is None:
                answer = _Answer.of(self._application, environ)
                if answer.status.startswith("200"):
                    self._answered[region, token] = answer
        return answer(start_response)

    # --- the supervisor's own

    def _control(self, environ: Environ, what: str, start_response: StartResponse) -> Iterable[bytes]:
        token = environ.get("HTTP_" + TOKEN_HEADER.upper().replace("-", "_"), "")
        if not hmac.compare_digest(token, self._control_token):
            return _json(HTTPStatus.FORBIDDEN, {"error": "wrong token"})(start_response)
        method = environ["REQUEST_METHOD"]
        if (method, what) == ("GET", "machines"):
            machines = [report.model_dump(mode="json") for report in self._supervisor.machines()]
            return _json(HTTPStatus.OK, {"cloud_id": self._cloud_id, "machines": machines})(start_response)
        asked = re.fullmatch(r"machines/(i-[0-9a-f]+)/interrupt/([0-9]{1,6})", what)
        if method == "POST" and asked:
            notice = self._supervisor.interrupt(asked[1], float(asked[2]))
            if notice is not None:
                return _json(HTTPStatus.OK, {"ends_at": notice.ends_at.isoformat()})(start_response)
        return _json(HTTPStatus.NOT_FOUND, {"error": "no such thing"})(start_response)


class _Answer:
    """A whole answer, which can be given more than once."""

    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @classmethod
    def of(cls, application: Application, environ: Environ) -> _Answer:
        started: list[Any] = []
        body = application(environ, lambda status, headers, _error=None: started.append((status, headers)))
        whole = b"".join(body)
        close = getattr(body, "close", None)
        if close is not None:
            close()
        return cls(started[0][0], list(started[0][1]), whole)

    def __call__(self, start_response: StartResponse) -> Iterable[bytes]:
        start_response(self.status, self.headers)
        return [self.body]


def _with_console(answer: _Answer, console: bytes | None) -> _Answer:
    """GetConsoleOutput with a machine's own console in place of moto's sample; without output where it has none."""
    if not answer.status.startswith("200"):
        return answer
    output = b"<output>" + base64.b64encode(console) + b"</output>" if console is not None else b""
    body = re.sub(rb"<output>[^<]*</output>", output, answer.body)
    headers = [(name, value) for name, value in answer.headers if name.lower() != "content-length"]
    return _Answer(answer.status, [*headers, ("Content-Length", str(len(body)))], body)


def _signed_by(environ: Environ) -> tuple[str, str, str]:
    """Access key id, region and service of a signature, in the header or in the query; empty without one."""
    header = re.search(r"Credential=([^/,\s]+)/[^/]+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
    if header:
        return header[1], header[2], header[3]
    query = parse_qs(environ.get("QUERY_STRING", ""))
    scope = query.get("X-Amz-Credential", [""])[0].split("/")
    key, _day, region, service = (*scope, "", "", "", "")[:4]
    return key, region, service


def _form(environ: Environ) -> dict[str, list[str]]:
    """The request's form, which stays readable for who comes after."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if not 0 < length <= _LONGEST_FORM:
        return {}
    return parse_qs(body_of(environ).decode(errors="replace"))


Headers = tuple[tuple[str, str], ...]


def _json(status: HTTPStatus, value: object, more: Headers = ()) -> _Answer:
    return _answer(status, "application/json", json.dumps(value).encode(), more)


def _answer(status: HTTPStatus, content_type: str, body: bytes, more: Headers = ()) -> _Answer:
    headers = [("Content-Type", content_type), ("Content-Length", str(len(body))), *more]
    return _Answer(f"{status.value} {status.phrase}", headers, body)


_MESSAGE: Final = "This key is not known to the local cloud, or the local cloud was started anew."
_XML: Final = {
    "s3": (HTTPStatus.FORBIDDEN, "<Error><Code>InvalidAccessKeyId</Code>{}</Error>"),
    "ec2": (
        HTTPStatus.UNAUTHORIZED,
        "<Response><Errors><Error><Code>AuthFailure</Code>{}</Error></Errors></Response>",
    ),
    "": (
        HTTPStatus.FORBIDDEN,
        "<ErrorResponse><Error><Code>InvalidClientTokenId</Code>{}</Error></ErrorResponse>",
    ),
}


def _refusal(service: str, environ: Environ) -> _Answer:
    """The error that AWS gives to an unknown key, in the service's own dress."""
    # The connection is closed after it, for the request's body is not read.
    closing = (("Connection", "close"),)
    if service in ("logs", "ssm", "secretsmanager"):
        return _json(
            HTTPStatus.BAD_REQUEST, {"__type": "UnrecognizedClientException", "message": _MESSAGE}, closing
        )
    status, form = _XML.get(service, _XML[""])
    body = form.format(f"<Message>{_MESSAGE}</Message>").encode()
    return _answer(status, "application/xml", b"" if environ["REQUEST_METHOD"] == "HEAD" else body, closing)
