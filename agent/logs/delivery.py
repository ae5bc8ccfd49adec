"""A batch into the sink, whatever it takes: retries without end, and no batch twice.

When it is not sure whether a batch was taken (no answer, an error of the service's own, an agent that was
killed), the stream is asked for the batch's timestamp, which no other batch has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from agent.clock import Clock
from agent.logs.sink import Denied, LogSink, Receipt, Refused, SinkError, Unacceptable, Unsure
from agent.logs.waiting import Waiting

_DENIED_WAIT_S: Final = 30.0
"""A permission is mended by a person; asking more often helps nobody."""
_LOOK_AGAIN_S: Final = 0.25

log = logging.getLogger(__name__)


class GivenUp(Exception):
    """The deadline has passed; the batch may or may not be in the stream."""


class Delivery:
    """Puts batches into one sink. Called by several threads at once."""

    def __init__(
        self,
        sink: LogSink,
        clock: Clock,
        waiting: Waiting,
        warn: Callable[[str, str], None],
        *,
        settle_s: float,
        retry_s: float,
        retry_max_s: float,
    ) -> None:
        """`warn(kind, text)` takes what a person should know.

        `settle_s`: how long a batch may be in the stream and not to be seen there yet.
        """
        self._sink = sink
        self._clock = clock
        self._waiting = waiting
        self._warn = warn
        self._settle_s = settle_s
        self._soon = wait_random_exponential(multiplier=retry_s, max=retry_max_s)
        self.last_error = ""
        """Why the latest try failed; for the report, should the deadline pass."""

    def deliver(self, timestamp: int, events: Sequence[str], *, perhaps_there: bool = False) -> Receipt:
        """Come back when the batch is in the stream, or was refused for good.

        Raises:
            GivenUp: the deadline passed first.
        """
        unsure = perhaps_there

        def once() -> Receipt:
            nonlocal unsure
            if unsure and self._is_there(timestamp):
                return Receipt()
            unsure = False
            try:
                return self._sink.put(timestamp, events)
            except Unsure:
                unsure = True
                raise

        try:
            receipt = self._retrying()(once)
        except Unacceptable as error:
            receipt = Receipt(rejected=len(events), why=str(error))
        except SinkError:
            raise GivenUp from None
        if receipt.rejected:
            self._warn(
                "rejected",
                f"CloudWatch Logs refused events of the workload's log for good, the first {receipt.rejected:,} "
                f"because {receipt.why}. The log in S3 has them.",
            )
        return receipt

    def _is_there(self, timestamp: int) -> bool:
        """Look for the batch until it is seen, or would have been.

        A look that fails is only made again: if it began the waiting anew, a service that fails often would
        never let it end.

        Raises:
            Unsure: it could not be told before the deadline.
        """
        since = self._clock.monotonic()
        while True:
            looked = True
            try:
                if self._sink.contains(timestamp):
                    return True
            except (Refused, Unsure) as error:
                self.last_error = str(error)
                looked = False
            except (Denied, Unacceptable) as error:
                self._warn(
                    "unseen",
                    f"It cannot be looked up which log events have arrived ({error}): where that is in doubt, "
                    f"they are sent again, so lines may come twice.",
                )
                return False
            if looked and self._clock.monotonic() - since >= self._settle_s:
                return False
            if self._waiting.over:
                raise Unsure("the deadline passed while a batch was looked for")
            self._waiting.sleep(min(_LOOK_AGAIN_S, self._settle_s))

    def _retrying(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type((Refused, Unsure, Denied)),
            wait=self._wait,
            stop=lambda _state: self._waiting.over,
            sleep=self._waiting.sleep,
            before_sleep=self._note,
            reraise=True,
        )

    def _wait(self, state: RetryCallState) -> float:
        if isinstance(_error(state), Denied):
            return _DENIED_WAIT_S
        return self._soon(state)

    def _note(self, state: RetryCallState) -> None:
        error = _error(state)
        self.last_error = str(error)
        if isinstance(error, Denied):
            self._warn(
                "denied",
                f"The workload's log does not reach CloudWatch Logs: {error}. It is tried again every "
                f"{_DENIED_WAIT_S:.0f} s; the log in S3 will be whole.",
            )
        elif state.attempt_number & (state.attempt_number - 1) == 0:  # at tries 1, 2, 4, 8 …
            log.warning("log batch not accepted yet, try %d: %s", state.attempt_number, error)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
