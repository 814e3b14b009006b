"""A transformer with its limits, as asked for and as it ends up."""

from __future__ import annotations

from dataclasses import dataclass, fields

from evflex.capacity.v1 import transformer_pb2 as pb
from evflex.client.enums import full_name
from evflex.client.steps import PerStep, per_step


@dataclass(frozen=True, slots=True, kw_only=True)
class ThermalParameters:
    """Parameters of the difference equations of IEC 60076-7; None takes the default of the cooling class.

    Attributes:
        top_oil_rise_k: Top-oil temperature rise at rated losses in K.
        hot_spot_gradient_k: Hot-spot to top-oil gradient at rated current in K.
        loss_ratio: Load losses at rated current over no-load losses.
        oil_exponent: Oil exponent x.
        winding_exponent: Winding exponent y, >= 1.
        oil_time_constant_min: Oil time constant in minutes.
        winding_time_constant_min: Winding time constant in minutes.
        k11: Constant k11.
        k21: Constant k21, >= 1.
        k22: Constant k22.
    """

    top_oil_rise_k: float | None = None
    hot_spot_gradient_k: float | None = None
    loss_ratio: float | None = None
    oil_exponent: float | None = None
    winding_exponent: float | None = None
    oil_time_constant_min: float | None = None
    winding_time_constant_min: float | None = None
    k11: float | None = None
    k21: float | None = None
    k22: float | None = None

    def to_message(self) -> pb.ThermalParameters:
        """Write parameters of the contract."""
        return pb.ThermalParameters(**{field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True, slots=True)
class ThermalState:
    """State of the thermal model.

    Attributes:
        top_oil_c: Top-oil temperature in degrees Celsius.
        winding_gradient_c: First hot-spot gradient (winding) in K.
        oil_gradient_c: Second hot-spot gradient (oil, subtracted) in K.
    """

    top_oil_c: float
    winding_gradient_c: float
    oil_gradient_c: float

    @property
    def hot_spot_c(self) -> float:
        """Hot-spot temperature in degrees Celsius."""
        return self.top_oil_c + self.winding_gradient_c - self.oil_gradient_c

    @classmethod
    def from_message(cls, message: pb.ThermalState) -> ThermalState:
        """Read a state of the contract."""
        return cls(message.top_oil_c, message.winding_gradient_c, message.oil_gradient_c)

    def to_message(self) -> pb.ThermalState:
        """Write a state of the contract."""
        return pb.ThermalState(
            top_oil_c=self.top_oil_c, winding_gradient_c=self.winding_gradient_c, oil_gradient_c=self.oil_gradient_c
        )


@dataclass(frozen=True, slots=True, eq=False)
class Transformer:
    """A transformer; None takes the default of the contract.

    Attributes:
        transformer_id: Identifier.
        rated_kva: Rated power in kVA, three-phase.
        cooling: ``ONAN``, ``ONAF``, ``OFAF`` or ``ODAF``.
        distribution: Whether it is a distribution transformer (only ONAN), which has other thermal parameters.
        thermal_parameters: Parameters in place of the class' own.
        ambient_c: Ambient temperature in degrees Celsius; None is 20.
        max_loading_ratio: Largest load of the most loaded phase over rated power; None is 1.5.
        max_hot_spot_c: Largest hot-spot temperature; None is 120.
        max_top_oil_c: Largest top-oil temperature; None is 105.
        max_loss_of_life_h_per_day: Largest loss of life in hours for each day; None is no limit.
        initial_state: State at the start; None is the steady state of the first step's load without hubs.
        paper: ``NORMAL`` or ``THERMALLY_UPGRADED``.
    """

    transformer_id: str
    rated_kva: float
    cooling: str = "ONAN"
    distribution: bool = False
    thermal_parameters: ThermalParameters | None = None
    ambient_c: PerStep | None = None
    max_loading_ratio: float | None = None
    max_hot_spot_c: float | None = None
    max_top_oil_c: float | None = None
    max_loss_of_life_h_per_day: float | None = None
    initial_state: ThermalState | None = None
    paper: str = "NORMAL"

    def to_message(self) -> pb.Transformer:
        """Write a transformer of the contract.

        Raises:
            ValueError: ``cooling`` or ``paper`` is unknown, or an ambient temperature is no number.
        """
        parameters, state = self.thermal_parameters, self.initial_state
        return pb.Transformer(
            transformer_id=self.transformer_id,
            rated_kva=self.rated_kva,
            cooling=full_name(pb.Cooling, "COOLING_", self.cooling),
            distribution=self.distribution,
            thermal_parameters=None if parameters is None else parameters.to_message(),
            ambient_c=per_step(self.ambient_c),
            max_loading_ratio=self.max_loading_ratio,
            max_hot_spot_c=self.max_hot_spot_c,
            max_top_oil_c=self.max_top_oil_c,
            max_loss_of_life_h_per_day=self.max_loss_of_life_h_per_day,
            initial_state=None if state is None else state.to_message(),
            paper=full_name(pb.InsulationPaper, "INSULATION_PAPER_", self.paper),
        )
