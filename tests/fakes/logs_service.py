"""A CloudWatch Logs of our own on loopback: fast, strict about its limits, and as unreliable as it is told to be.

    python -m tests.fakes.logs_service --latency-ms 50

prints its URL. It is a process of its own, so that its work counts for nobody else's. Beside AWS's operations:
`GET /-/events` (messages, in the stream's order), `/-/batches`, `/-/problems`, and `POST /-/faults`.
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

MAX_BATCH_BYTES = 1_048_576
MAX_BATCH_EVENTS = 10_000
MAX_EVENT_BYTES = 1_000_000
MAX_SPAN_MS = 24 * 3600 * 1000


@dataclass
class Faults:
    """How often, between 0 and 1, a PutLogEvents goes wrong, and how."""

    throttle: float = 0.0
    """400, not taken."""
    error: float = 0.0
    """500, not taken."""
    error_but_taken: float = 0.0
    """500, and taken all the same."""
    hang_up: float = 0.0
    """No answer, not taken."""
    hang_up_but_taken: float = 0.0
    """No answer, and taken all the same."""
    deny_reading: bool = False
    """GetLogEvents is answered with AccessDeniedException."""
    deny_writing: bool = False
    """PutLogEvents is answered with AccessDeniedException."""
    seed: int = 0


@dataclass
class Batch:
    """A PutLogEvents that was taken."""

    timestamp: int
    last_timestamp: int
    count: int
    size: int
    first: str
    last: str
    messages: list[str] = field(default_factory=list)


class Refusal(Exception):
    """An error as AWS words it."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Service:
    """Groups, streams, and what was put into them."""

    def __init__(self, *, keep: bool) -> None:
        self.keep = keep
        self.streams: dict[tuple[str, str], list[Batch]] = {}
        self.groups: set[str] = set()
        self.problems: list[str] = []
        self.faults = Faults()
        self.random = random.Random(0)  # noqa: S311 - which calls fail is no secret
        self.requests = 0

    def operation(self, name: str, request: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Answer, and what becomes of the answer: "", "error" or "hang up"."""
        self.requests += 1
        match name:
            case "CreateLogGroup":
                if request["logGroupName"] in self.groups:
                    raise Refusal("ResourceAlreadyExistsException")
                self.groups.add(request["logGroupName"])
                return {}, ""
            case "CreateLogStream":
                if request["logGroupName"] not in self.groups:
                    raise Refusal("ResourceNotFoundException", "The specified log group does not exist.")
                if _key(request) in self.streams:
                    raise Refusal("ResourceAlreadyExistsException")
                self.streams[_key(request)] = []
                return {}, ""
            case "PutLogEvents":
                return self._put(request)
            case "GetLogEvents":
                return self._get(request), ""
        raise Refusal("UnknownOperationException", name)

    def _put(self, request: dict[str, Any]) -> tuple[dict[str, Any], str]:
        if self.faults.deny_writing:
            raise Refusal("AccessDeniedException", "not authorized to perform logs:PutLogEvents")
        if _key(request) not in self.streams:
            raise Refusal("ResourceNotFoundException", "The specified log stream does not exist.")
        dice = self.random.random()
        fate = ""
        for name in ("throttle", "error", "error_but_taken", "hang_up", "hang_up_but_taken"):
            dice -= getattr(self.faults, name)
            if dice < 0:
                fate = name
                break
        if fate == "throttle":
            raise Refusal("ThrottlingException", "Rate exceeded")
        if fate == "error":
            raise Refusal("InternalFailure", status=500)
        if fate != "hang_up":
            self.streams[_key(request)].append(self._checked(request["logEvents"]))
        return {"nextSequenceToken": "none"}, {"": "", "error_but_taken": "error"}.get(fate, "hang up")

    def _checked(self, events: list[dict[str, Any]]) -> Batch:
        stamps = [event["timestamp"] for event in events]
        messages = [event["message"] for event in events]
        joined = "".join(messages)
        size = len(joined if joined.isascii() else joined.encode()) + 26 * len(events)
        problem = None
        if not events:
            problem = "a batch without events"
        elif not all(messages):
            problem = "an empty message"
        elif len(events) > MAX_BATCH_EVENTS:
            problem = f"{len(events)} events in a batch"
        elif size > MAX_BATCH_BYTES:
            problem = f"a batch of {size} bytes"
        elif max(map(len, messages)) > MAX_EVENT_BYTES:
            problem = f"an event of {max(map(len, messages))} characters"
        elif stamps != sorted(stamps):
            problem = "a batch out of order"
        elif stamps[-1] - stamps[0] > MAX_SPAN_MS:
            problem = "a batch of more than 24 hours"
        if problem:
            self.problems.append(problem)
            raise Refusal("InvalidParameterException", problem)
        kept = messages if self.keep else []
        return Batch(stamps[0], stamps[-1], len(events), size, messages[0][:40], messages[-1][:40], kept)

    def _get(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.faults.deny_reading:
            raise Refusal("AccessDeniedException", "not authorized to perform logs:GetLogEvents")
        if _key(request) not in self.streams:
            raise Refusal("ResourceNotFoundException", "The specified log stream does not exist.")
        first, end = request.get("startTime", 0), request.get("endTime", 1 << 62)
        if request.get("nextToken"):
            return {"events": [], "nextForwardToken": request["nextToken"]}
        found = [
            {"timestamp": batch.timestamp, "message": message}
            for batch in self.sorted(_key(request))
            if first <= batch.timestamp < end
            for message in (batch.messages or [batch.first])
        ]
        return {"events": found[: request.get("limit", 10_000)], "nextForwardToken": "f/end"}

    def sorted(self, key: tuple[str, str]) -> list[Batch]:
        """The batches in the stream's order."""
        return sorted(self.streams[key], key=lambda batch: batch.timestamp)

    def look(self, what: str) -> Any:
        """What the tests ask."""
        if what == "problems":
            return self.problems
        batches = [batch for key in self.streams for batch in self.sorted(key)]
        if what == "events":
            return [message for batch in batches for message in batch.messages]
        return [{**asdict(batch), "messages": None} for batch in batches]


def _key(request: dict[str, Any]) -> tuple[str, str]:
    return request["logGroupName"], request["logStreamName"]


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as far as AWS's clients use it."""

    def __init__(self, service: Service, latency: float) -> None:
        self.service = service
        self.latency = latency
        self.buffer = bytearray()
        self.needed = 0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's transport is a Transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.needed:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).decode("latin-1").split("\r\n")
            self.line = head[0].split(" ")
            self.headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
            }
            self.start = end + 4
            self.needed = self.start + int(self.headers.get("content-length", 0))
        if len(self.buffer) >= self.needed:
            body = bytes(self.buffer[self.start : self.needed])
            del self.buffer[: self.needed]
            self.needed = 0
            self.handle(body)

    def handle(self, body: bytes) -> None:
        """Answer one request."""
        path = self.line[1]
        if path.startswith("/-/"):
            if self.line[0] == "POST":
                self.service.faults = Faults(**json.loads(body))
                self.service.random = random.Random(self.service.faults.seed)  # noqa: S311 - as above
            self.reply(200, orjson.dumps(self.service.look(path[3:])))
            return
        fate = ""
        try:
            operation = self.headers.get("x-amz-target", "").rpartition(".")[2]
            answer, fate = self.service.operation(operation, orjson.loads(body))
            status = 200
        except Refusal as refusal:
            status, answer = refusal.status, {"__type": refusal.code, "message": str(refusal)}
        if fate == "error":
            status, answer = 500, {"__type": "InternalFailure"}
        loop = asyncio.get_running_loop()
        if fate == "hang up":
            loop.call_later(self.latency, self.transport.close)
        else:
            loop.call_later(self.latency, self.reply, status, orjson.dumps(answer))

    def reply(self, status: int, body: bytes) -> None:
        """Send an answer."""
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


async def serve(service: Service, latency: float) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service, latency), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


class LogsService:
    """The process, seen from a test."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid

    def look(self, what: str) -> Any:
        """`events`, `batches` or `problems`."""
        with urllib.request.urlopen(f"{self.url}/-/{what}") as answer:  # noqa: S310 - our own loopback server
            return json.load(answer)

    def set(self, faults: Faults) -> None:
        """From now on, fail like this."""
        request = urllib.request.Request(  # noqa: S310 - our own loopback server
            f"{self.url}/-/faults", json.dumps(asdict(faults)).encode(), method="POST"
        )
        urllib.request.urlopen(request).close()  # noqa: S310 - our own loopback server


@contextmanager
def logs_service(*, latency_ms: float = 0, keep: bool = True) -> Iterator[LogsService]:
    """Run the service for the duration."""
    command = [sys.executable, "-m", __name__, "--latency-ms", str(latency_ms), *(["--keep"] if keep else [])]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    try:
        yield LogsService(process.stdout.readline().strip(), process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    asyncio.run(serve(Service(keep=options.keep), options.latency_ms / 1000))
