"""Draws the low-voltage feeder of `evflex demo congestion`, and writes it as pandapower would.

    python docs/sample_demo_feeder.py

Needs pandapower (extra `bench`). The village is invented: a transformer, five streets with a house every 28 m, two of
which could be joined at their ends. The same seed gives the same file.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pandapower as pp

SEED = 20260114
TARGET = Path(__file__).resolve().parents[1] / "clients" / "evflex" / "cli" / "demo" / "data" / "winter_feeder.json"
HOUSE_SPACING_M = 28.0
SIDE_STEP_M = 14.0
MAIN_CABLE, SERVICE_CABLE = "NAYY 4x150 SE", "NAYY 4x50 SE"
# Houses by street, and the direction in which it leaves the substation, in degrees.
STREETS = {
    "Mill Lane": (15, 12.0),
    "High Street": (18, 78.0),
    "Church Road": (12, 150.0),
    "Ferry Way": (20, 215.0),
    "Hill View": (14, 300.0),
}
# A cable between the ends of two streets that is open as a rule.
TIE = ("Mill Lane", "High Street")


def main() -> None:
    """Write the file."""
    net = village(np.random.default_rng(SEED))
    content = json.loads(pp.to_json(net))
    # pandapower's own catalogue is not needed to read the net
    content["_object"]["std_types"] = {"line": {}, "trafo": {}, "trafo3w": {}}
    TARGET.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def village(rng: np.random.Generator) -> pp.pandapowerNet:
    """The net, without loads: the demo draws them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = pp.create_empty_network("winter village", f_hz=50.0)
        grid = pp.create_bus(net, 20.0, name="medium voltage", geodata=(-20.0, 10.0))
        board = pp.create_bus(net, 0.4, name="substation", geodata=(0.0, 0.0))
        pp.create_ext_grid(net, grid, vm_pu=1.0)
        pp.create_transformer(net, grid, board, "0.4 MVA 20/0.4 kV", name="substation transformer")
        ends = {street: _street(net, board, street, houses, angle, rng) for street, (houses, angle) in STREETS.items()}
        one, other = (ends[street] for street in TIE)
        tie = pp.create_line(net, one, other, 0.09, MAIN_CABLE, name="tie")
        pp.create_switch(net, other, tie, et="l", closed=False, type="LBS", name="tie")
    return net


def _street(
    net: pp.pandapowerNet, board: int, street: str, houses: int, angle_deg: float, rng: np.random.Generator
) -> int:
    """Joints along a cable with a house at each; returns the last joint."""
    along = np.deg2rad(angle_deg)
    at, joint = np.zeros(2), board
    for k in range(houses):
        along += np.deg2rad(rng.normal(0.0, 7.0))
        at = at + HOUSE_SPACING_M * np.array([np.cos(along), np.sin(along)])
        side = SIDE_STEP_M * (1 if k % 2 else -1) * np.array([-np.sin(along), np.cos(along)])
        place = [tuple(float(round(c, 1)) for c in point) for point in (at, at + side)]
        next_joint = pp.create_bus(net, 0.4, name=f"{street} joint {k + 1}", geodata=place[0])
        house = pp.create_bus(net, 0.4, name=f"{street} {k + 1}", geodata=place[1])
        pp.create_line(net, joint, next_joint, HOUSE_SPACING_M / 1000.0, MAIN_CABLE, name=f"{street} {k + 1}")
        pp.create_line(net, next_joint, house, SIDE_STEP_M / 1000.0, SERVICE_CABLE, name=f"service {street} {k + 1}")
        joint = next_joint
    return joint


if __name__ == "__main__":
    main()
