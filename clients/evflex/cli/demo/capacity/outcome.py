"""What the evening comes to: with firm and conditional capacity, and with firm capacity alone."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from evflex.client import Allocation, TransformerRating


@dataclass(frozen=True, slots=True, eq=False)
class EveningOutcome:
    """Answers of the server.

    Attributes:
        rating: The transformer without hubs.
        shared: Firm and conditional capacity, shared.
        firm_only: The same evening with firm capacity alone.
    """

    rating: TransformerRating
    shared: Allocation
    firm_only: Allocation

    @property
    def hubs(self) -> pd.DataFrame:
        """By hub: wanted_kwh, served_kwh, curtailed_kwh, compensation, and firm_only_kwh served by firm capacity."""
        return self.shared.hubs.assign(firm_only_kwh=self.firm_only.hubs["served_kwh"])

    @property
    def gain(self) -> float:
        """Energy that conditional capacity let through on top, as a share of what firm capacity alone would."""
        firm_kwh = float(self.firm_only.hubs["served_kwh"].sum())
        return float(self.shared.hubs["served_kwh"].sum()) / firm_kwh - 1.0 if firm_kwh > 0.0 else 0.0

    @property
    def firm_headroom_kva(self) -> float:
        """Extra load that fits in every step, even if the grid had no reserve all the time."""
        return float(self.rating.steps["headroom_n1_kva"].min())
