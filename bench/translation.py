"""The parts of serving one request, callable one by one."""

from __future__ import annotations

from collections.abc import Callable

from evflex.charging.v1 import charging_service_pb2 as api
from evflex.engine.charging import Schedule, optimize_schedule
from evflex.server.charging.decode import decode_request
from evflex.server.charging.encode import encode_schedule

_TIME_LIMIT_S = 30.0


class Translation:
    """Bytes to message to arrays, and back."""

    def __init__(self, data: bytes) -> None:
        """Go through all parts once with the bytes of an OptimizeScheduleRequest."""
        self._data = data
        self._request = api.OptimizeScheduleRequest.FromString(data)
        self._decoded = decode_request(self._request, _TIME_LIMIT_S)
        self._plan = self.solve()
        self._answer = self._encode()
        self.answer_bytes = len(self._answer.SerializeToString())

    @property
    def parts(self) -> dict[str, Callable[[], object]]:
        """Everything but the solve, by name, in the order in which a server does it."""
        return {
            "parse": lambda: api.OptimizeScheduleRequest.FromString(self._data),
            "decode": lambda: decode_request(self._request, _TIME_LIMIT_S),
            "validate": self._decoded.violations,
            "encode": self._encode,
            "serialize": self._answer.SerializeToString,
        }

    def solve(self) -> Schedule:
        """The engine's part, which includes a second validation."""
        return optimize_schedule(self._decoded.problem, self._decoded.options)

    def _encode(self) -> api.OptimizeScheduleResponse:
        answer = api.OptimizeScheduleResponse()
        encode_schedule(answer.schedule, self._request, self._decoded.problem, self._plan, "default", 0)
        return answer
