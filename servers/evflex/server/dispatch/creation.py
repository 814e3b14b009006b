"""A portfolio that is coming in: checked as its chunks come, and whole with the commit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evflex.dispatch.v1 import dispatch_service_pb2, fleet_pb2
from evflex.engine.dispatch.model import Fleet
from evflex.engine.validation import Rules
from evflex.server.dispatch.memory import Claim
from evflex.server.dispatch.names import check_names
from evflex.server.dispatch.portfolio import Portfolio, PortfolioNames, fleet_bytes
from evflex.server.dispatch.profile_rules import UNKNOWN_KIND, by_grid, check_profiles, newest_profiles, profile_ids
from evflex.server.dispatch.profiles import ProfileRows, profile_bytes
from evflex.server.dispatch.read_fleet import ReadProfile, check_fleet, first_of, read_fleet, read_profiles
from evflex.server.errors import invalid_field, limit_exceeded
from evflex.server.fields import check_currency, check_id, check_request_id
from evflex.server.settings import Settings

_Header = dispatch_service_pb2.CreatePortfolioHeader


class Creation:
    """Builds a portfolio, which nobody sees before it is finished."""

    def __init__(self, header: _Header, names: PortfolioNames, rules: Rules, claim: Claim, settings: Settings) -> None:
        """Begin with a header.

        Raises:
            ServiceError: RESOURCE_EXHAUSTED, so many assets are too many.
        """
        self._rules = rules
        self._claim = claim
        self._settings = settings
        self._expected = header.expected_assets
        self._portfolio = Portfolio(names)
        self._profiles: list[ReadProfile] = []
        self._profile_bytes = 0
        _check_header(rules, header)
        _check_sizes(header, settings)
        claim.hold(fleet_bytes(max(0, self._expected), 1))
        self._read_profiles("header.profiles", header.profiles)

    def add(self, path: str, chunk: dispatch_service_pb2.PortfolioChunk) -> None:
        """Take over a chunk, and report its faults.

        Raises:
            ServiceError: More assets came than the header says, or memory does not suffice.
        """
        rules = self._rules
        rules.check(not chunk.removed_asset_ids, f"{path}.removed_asset_ids", "must be empty in CreatePortfolio")
        portfolio = self._portfolio
        if portfolio.asset_count + len(chunk.fleet.asset_ids) > self._expected:
            raise invalid_field("header.expected_assets", f"is {self._expected}, but more assets came")
        read = read_fleet(rules, f"{path}.fleet", chunk.fleet)
        if read is not None and len(read.ids):
            fleet = Fleet.of(len(read.ids), read.columns)
            check_fleet(rules, f"{path}.fleet", fleet, len(portfolio.names.groups), len(portfolio.names.operators))
            width = max(portfolio.ids.ids.shape[1], read.ids.shape[1])
            self._claim.hold(fleet_bytes(self._expected, width) + self._profile_bytes)
            portfolio.reserve(self._expected, read.ids.shape[1])
            taken = portfolio.add(read.ids, fleet)
            for i in first_of(taken >= 0):
                rules.check(False, f"{path}.fleet.asset_ids[{i}]", "must be unique in the portfolio")
        self._read_profiles(f"{path}.profiles", chunk.profiles)

    def finish(self) -> Portfolio:
        """The portfolio, once all chunks have come; what is not right as a whole is reported."""
        rules, portfolio = self._rules, self._portfolio
        if portfolio.asset_count != self._expected and not rules.violations:
            rules.check(
                False, "header.expected_assets", f"is {self._expected}, but {portfolio.asset_count} assets came"
            )
        profiles = newest_profiles(self._profiles)
        self._profiles = []
        assets = portfolio.ids.find(profile_ids(profiles))
        kinds = np.full(len(profiles), UNKNOWN_KIND, dtype=np.uint8)
        kinds[assets >= 0] = portfolio.columns.column("kind")[assets[assets >= 0]]
        check_profiles(rules, profiles, kinds)
        if not rules.violations:
            for rows in by_grid(profiles):
                portfolio.profiles.set(ProfileRows(rows.grid, assets[rows.asset], rows.power_kw))
            portfolio.reserve(portfolio.asset_count, 1)
        return portfolio

    def _read_profiles(self, path: str, profiles: Sequence[fleet_pb2.Profile]) -> None:
        read = read_profiles(self._rules, path, profiles)
        added_bytes = sum(profile_bytes(profile.grid.step_count) for profile in read)
        self._claim.hold(self._claim.held_bytes + added_bytes)
        self._profile_bytes += added_bytes
        self._profiles += read


def _check_header(rules: Rules, header: _Header) -> None:
    check_request_id(rules, header.request_id, required=not header.validate_only, path="header.request_id")
    check_id(rules, "header.portfolio_id", header.portfolio_id)
    check_id(rules, "header.area_id", header.area_id)
    check_currency(rules, "header.currency_code", header.currency_code)
    check_names(rules, {"header.operators": header.operators, "header.groups": header.groups})
    rules.check(header.expected_assets >= 0, "header.expected_assets", f"must be >= 0, is {header.expected_assets}")


def _check_sizes(header: _Header, settings: Settings) -> None:
    if header.expected_assets > settings.max_portfolio_assets:
        raise limit_exceeded("max_portfolio_assets", header.expected_assets, settings.max_portfolio_assets)
    count = len(header.groups) + len(header.operators)
    if count > settings.max_portfolio_groups:
        raise limit_exceeded("max_portfolio_groups", count, settings.max_portfolio_groups)
