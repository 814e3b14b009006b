"""Products are data: versioned, with a source, and complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from evflex.common.v1 import product_pb2
from evflex.dispatch.v1 import dispatch_service_pb2 as api
from evflex.server.dispatch.products import known_products
from tests.server.dispatch.support import running_dispatch


def test_products_are_listed_in_the_order_of_their_identifiers(tmp_path: Path) -> None:
    with running_dispatch(tmp_path) as here:
        products = list(here.dispatch.ListProducts(api.ListProductsRequest()).products)
    assert [product.product_id for product in products] == [
        "AFRR-DOWN", "AFRR-UP", "FCR-D-DOWN", "FCR-D-UP", "FCR-N", "MFRR-DOWN", "MFRR-UP",
    ]  # fmt: skip
    for product in products:
        assert product.version >= 1
        assert product.source
        assert product.valid_from_time.seconds > 0
        assert product.kind != product_pb2.PRODUCT_KIND_UNSPECIFIED
        assert product.min_bid_kw > 0.0
        assert product.full_activation_duration.ToNanoseconds() > 0


@pytest.mark.parametrize(
    ("product_id", "endurance_s", "up", "down"),
    [
        ("FCR-N", 3600.0, True, True),
        ("FCR-D-UP", 1200.0, True, False),
        ("AFRR-DOWN", 3600.0, False, True),
        ("MFRR-UP", 900.0, True, False),
    ],
)
def test_a_product_tells_how_long_and_which_way(product_id: str, endurance_s: float, up: bool, down: bool) -> None:
    product = known_products().find(product_id)
    assert product is not None
    assert (product.endurance_s, product.is_sold_up, product.is_sold_down) == (endurance_s, up, down)


def test_what_is_not_there_is_none() -> None:
    assert known_products().find("FCR") is None
