"""Products that reserves refer to: data of this folder, not code."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from evflex.common.v1 import product_pb2

_UP_ONLY = {
    product_pb2.PRODUCT_KIND_FCR_D_UP, product_pb2.PRODUCT_KIND_AFRR_UP, product_pb2.PRODUCT_KIND_MFRR_UP,
    product_pb2.PRODUCT_KIND_LOCAL_UP,
}  # fmt: skip
_DOWN_ONLY = {
    product_pb2.PRODUCT_KIND_FCR_D_DOWN, product_pb2.PRODUCT_KIND_AFRR_DOWN, product_pb2.PRODUCT_KIND_MFRR_DOWN,
    product_pb2.PRODUCT_KIND_LOCAL_DOWN,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Product:
    """A product.

    Attributes:
        spec: As the contract has it.
    """

    spec: product_pb2.ProductSpec

    @property
    def product_id(self) -> str:
        """Identifier that reserves refer to."""
        return self.spec.product_id

    @property
    def endurance_s(self) -> float:
        """How long full power must be held."""
        return self.spec.min_endurance_duration.ToNanoseconds() / 1e9

    @property
    def is_sold_up(self) -> bool:
        """Whether more injection or less consumption is sold."""
        return self.spec.kind not in _DOWN_ONLY

    @property
    def is_sold_down(self) -> bool:
        """Whether less injection or more consumption is sold."""
        return self.spec.kind not in _UP_ONLY


class Products:
    """All products, in the order of their identifiers."""

    def __init__(self, products: Iterable[Product]) -> None:
        """Hold `products`."""
        self._products = {product.product_id: product for product in sorted(products, key=lambda p: p.product_id)}

    @property
    def product_ids(self) -> tuple[str, ...]:
        """Identifiers, sorted."""
        return tuple(self._products)

    def find(self, product_id: str) -> Product | None:
        """The product of this identifier, None where there is none."""
        return self._products.get(product_id)

    def specs(self) -> list[product_pb2.ProductSpec]:
        """All products as the contract has them."""
        return [product.spec for product in self._products.values()]


@cache
def known_products() -> Products:
    """The products of `products.json`."""
    text = resources.files("evflex.server.dispatch").joinpath("products.json").read_text(encoding="utf-8")
    return Products(_product(entry) for entry in json.loads(text)["products"])


def _product(entry: dict[str, str | int | float | bool]) -> Product:
    spec = product_pb2.ProductSpec(
        product_id=str(entry["product_id"]),
        version=int(entry["version"]),
        source=str(entry["source"]),
        kind=f"PRODUCT_KIND_{entry['kind']}",
        min_bid_kw=float(entry["min_bid_kw"]),
        granularity_kw=float(entry["granularity_kw"]),
        symmetric=bool(entry["symmetric"]),
        reserve_power_ratio=float(entry["reserve_power_ratio"]),
        full_deviation_hz=float(entry["full_deviation_hz"]),
    )
    spec.valid_from_time.FromDatetime(datetime.datetime.fromisoformat(str(entry["valid_from"])))
    spec.full_activation_duration.FromNanoseconds(round(float(entry["full_activation_s"]) * 1e9))
    spec.min_endurance_duration.FromNanoseconds(round(float(entry["min_endurance_s"]) * 1e9))
    return Product(spec)
