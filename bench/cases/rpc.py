"""What the wire costs: translation beside the solve, and the server's memory."""

from __future__ import annotations

from bench.registry import Outcome, Setting, case
from bench.served import served
from bench.timing import alternate, medians, shown
from bench.translation import Translation
from evflex.charging.v1 import charging_service_pb2 as api

_GAP = 1e-3
# In a unary call the server reports every fault before the solve, and the engine checks its rules again.
_VALIDATIONS = 2
_MEBIBYTE = 1 << 20


@case("rpc_share", "One OptimizeSchedule of 1000 sessions: translation and memory", sizes=(1000,))
def rpc_share(setting: Setting) -> Outcome:
    outcome = Outcome()
    request = setting.site(1000).message("site", _GAP)
    data = request.SerializeToString()
    translation = Translation(data)
    with served() as server:
        server.plan(data)
        runs = {"RPC": lambda: server.plan(data), **translation.parts, "solve": translation.solve}
        outcome.seconds = alternate(runs, setting.pick(7), setting.seconds(60.0))
        solve_s = _stated_solve_s(server.plan(data))
        peak_mb = server.peak_bytes() / _MEBIBYTE
    typical = medians(outcome.seconds)
    translated_s = sum(typical[name] * (_VALIDATIONS if name == "validate" else 1) for name in translation.parts)
    rest = 1.0 - solve_s / typical["RPC"]
    outcome.add(
        "share", "Decoding, validation and encoding, share of the RPC at N = 1000", translated_s / typical["RPC"], "%",
        at_most=0.15, peer=f"{shown(translated_s)} of {shown(typical['RPC'])}; everything but the solve: {rest:.1%}",
    )  # fmt: skip
    outcome.add("memory", "Peak memory of the server at N = 1000", peak_mb, "MB", at_most=600.0)
    outcome.details |= {
        "request_bytes": len(data), "answer_bytes": translation.answer_bytes, "solve_s_as_stated": solve_s,
        "share_of_everything_but_the_solve": rest,
    }  # fmt: skip
    outcome.notes += [
        f"The request asks for the default gap ({_GAP:g}). The server is a process of its own; the parts are timed by "
        "calling its translator on the same bytes, validation counted twice, as it runs twice.",
    ]
    return outcome


def _stated_solve_s(answer: bytes) -> float:
    """Wall time of the solve, as the schedule states it."""
    duration = api.OptimizeScheduleResponse.FromString(answer).schedule.termination.solve_duration
    return duration.seconds + 1e-9 * duration.nanos
