"""Ten thousand transformers rated at once, beside a NumPy loop over time."""

from __future__ import annotations

from dataclasses import astuple, replace
from math import ceil, log2

import numpy as np

from bench.instances import START_UNIX_S, FloatArray
from bench.numpy_rating_peer import LevelSearch, simulate
from bench.registry import Outcome, Setting, case
from bench.timing import alternate, medians, shown, timed
from evflex.engine.capacity.batch import BatchRating, TransformerBatch
from evflex.engine.capacity.batch_rating import rate_transformers, simulate_transformers
from evflex.engine.capacity.headroom import LEVEL_TOLERANCE
from evflex.engine.capacity.transformer import Cooling, ThermalParameters
from evflex.engine.timegrid import TimeGrid

_COUNT, _STEPS, _STEP_S = 10_000, 96, 900.0
_ASKED = 200.0
_OURS, _PEER = "evflex", "NumPy"


@case("capacity_rating", "Rating of transformers over a day", sizes=(_COUNT,), generated=True, domain="capacity")
def capacity_rating(setting: Setting) -> Outcome:
    outcome = Outcome(notes=[
        "Distribution transformers and larger ONAN ones in equal parts, a day with an evening peak and noise of 5 %, "
        "one-minute inner steps; a tenth of each has upgraded paper.",
        "The peer evaluates the standard's equations at each of the 1440 minutes, all transformers at once. Its "
        "headroom is by bisection to the same tolerance; of its simulations two are timed, the rest is multiplied.",
        "Each further level asks the peer for a bisection of what is left of the day. These are counted for each "
        "transformer by itself, as if the peer could leave out all others at no cost.",
    ])  # fmt: skip
    batch = _batch(setting.pick(_COUNT, 100))
    rate_transformers(batch)
    ratio = batch.loading_ratio
    runs = {_OURS: lambda: simulate_transformers(batch), _PEER: lambda: simulate(batch, ratio)}
    outcome.seconds = {f"{name}, simulation": s for name, s in alternate(runs, setting.pick(7), 20.0).items()}
    typical = medians(outcome.seconds)
    ours_s, peer_s = typical[f"{_OURS}, simulation"], typical[f"{_PEER}, simulation"]
    outcome.add(
        "simulation", "Temperatures and ageing faster than NumPy", peer_s / ours_s, "×", at_least=_ASKED,
        peer=f"{shown(ours_s)} beside {shown(peer_s)}",
    )  # fmt: skip
    rated_s = alternate({_OURS: lambda: rate_transformers(batch)}, setting.pick(5), 15.0)[_OURS]
    outcome.seconds[f"{_OURS}, rating"] = rated_s
    rating_s = float(np.median(rated_s))
    search = LevelSearch(batch, batch.max_loading_ratio * np.ones_like(ratio))
    halving_s = min(timed(search.halve) for _ in range(setting.pick(2)))
    outcome.seconds[f"{_PEER}, one halving"] = [halving_s]
    halvings = ceil(log2(search.width * 2.0 ** setting.pick(2) / LEVEL_TOLERANCE))
    rating = rate_transformers(batch)
    for key, title, rounds in (
        ("rating", "Rating with headroom faster than NumPy", _rounds(batch, rating)),
        ("first_level", "The same where the peer stops at the first level", 2.0),
    ):
        whole_s = peer_s + rounds * halvings * halving_s
        outcome.add(
            key, title, whole_s / rating_s, "×", at_least=_ASKED if key == "rating" else None,
            peer=f"{shown(rating_s)} beside {shown(whole_s)}: {rounds:.1f} bisections of {halvings} simulations",
        )  # fmt: skip
    peer = simulate(batch, ratio)
    difference_k = float(abs(peer.hot_spot_c - rating.temperatures.hot_spot_c).max())
    outcome.add("difference", "Largest difference of a hot-spot in K", difference_k, at_most=1e-6)
    lost = abs(rating.temperatures.loss_of_life_h / peer.loss_of_life_h - 1.0).max()
    outcome.add("ageing", "Largest relative difference of a loss of life", float(lost), at_most=1e-9)
    outcome.add("unsafe", "Transformers whose headroom breaks a limit", _unsafe(batch, rating), at_most=0)
    return outcome


def _rounds(batch: TransformerBatch, rating: BatchRating) -> float:
    """Bisections over a whole day that the peer needs of a transformer, both conditions, in the mean."""
    total = 0.0
    share = 1.0 - np.arange(1, _STEPS) / _STEPS
    for headroom in (rating.headroom_n_kva, rating.headroom_n1_kva):
        level = batch.loading_ratio + headroom / batch.rated_kva
        rises = np.diff(np.maximum.accumulate(level, axis=0), axis=0) > 2.0 * LEVEL_TOLERANCE
        total += 1.0 + float((share[:, None] * rises).sum(axis=0).mean())
    return total


def _unsafe(batch: TransformerBatch, rating: BatchRating) -> int:
    """Transformers of which the peer finds a limit broken once the headroom is used."""
    loaded = replace(batch, initial_state=batch.initial_states().T.copy())
    used: FloatArray = batch.loading_ratio + rating.headroom_n_kva / batch.rated_kva
    found = simulate(loaded, used)
    broken = (found.hot_spot_c > batch.max_hot_spot_c + 1e-9).any(axis=0)
    broken |= (found.top_oil_c > batch.max_top_oil_c + 1e-9).any(axis=0)
    broken |= (used > batch.max_loading_ratio * (1.0 + 1e-9)).any(axis=0)
    return int(broken.sum())


def _batch(count: int) -> TransformerBatch:
    """Seeded transformers with a day's load."""
    rng = np.random.default_rng(20_260)
    kinds = np.array([astuple(ThermalParameters.of(Cooling.ONAN, distribution=d)) for d in (True, False)])
    hour = (np.arange(_STEPS) * _STEP_S / 3600.0)[:, None]
    peak_hour, size = rng.normal(19.0, 1.0, count), rng.uniform(0.4, 1.0, count)
    shape = 0.5 + 0.4 * np.exp(-(((hour - peak_hour) / 3.0) ** 2)) - 0.2 * np.exp(-(((hour - 4.0) / 3.0) ** 2))
    loading = size * shape * (1.0 + 0.05 * rng.standard_normal((_STEPS, count)))
    ambient = rng.uniform(0.0, 25.0, count) + 6.0 * np.sin((hour - 9.0) / 24.0 * 2.0 * np.pi)
    rated = rng.choice([250.0, 400.0, 630.0, 1000.0], count)
    return TransformerBatch(
        grid=TimeGrid(float(START_UNIX_S), _STEP_S, _STEPS),
        rated_kva=rated,
        # neighbours are alike, as they are in a list of substations sorted by kind
        thermal_parameters=kinds[(np.arange(count) >= count // 2).astype(int)],
        upgraded=np.arange(count) % (count // 2) < count // 20,
        max_loading_ratio=np.full(count, 1.5),
        n1_rated_kva=0.9 * rated,
        max_hot_spot_c=np.full(count, 120.0),
        max_top_oil_c=np.full(count, 105.0),
        max_loss_of_life_h_per_day=np.full(count, np.inf),
        loading_ratio=loading,
        ambient_c=ambient,
        contingency=np.zeros((_STEPS, count), dtype=bool),
        wanted=np.ones((_STEPS, count), dtype=bool),
    )
