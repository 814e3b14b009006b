"""`evflex plan`: a portfolio from a file or from the server, its plan as JSON, and the powers as a table."""

from __future__ import annotations

import importlib.util
import uuid
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from evflex.cli.call import RequestFile, ServerAddress, Tenant, Timeout, given, transport
from evflex.cli.faults import UsageError, reported
from evflex.cli.messages import pretty, read_message
from evflex.client import InvalidRequestError
from evflex.client.dispatch.operations import CREATE_PORTFOLIO, PLAN_PORTFOLIO
from evflex.client.dispatch.portfolio import PortfolioCreation
from evflex.client.dispatch.sync_calls import read_plan
from evflex.client.files import NEEDS_PYARROW
from evflex.client.operations import DEFAULT_ADDRESS
from evflex.dispatch.v1 import dispatch_service_pb2, plan_pb2

TABLES = (".csv", ".parquet")


@reported
def plan(
    request: RequestFile = None,
    portfolio: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Fleet to create the portfolio from: Parquet or CSV, one row an asset."),
    ] = None,
    currency: Annotated[str, typer.Option(metavar="CODE", help="Currency of the portfolio that is created.")] = "EUR",
    setpoints: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Receives the power of each asset: Parquet or CSV.")
    ] = None,
    server: ServerAddress = DEFAULT_ADDRESS,
    tenant: Tenant = "",
    timeout: Timeout = None,
) -> None:
    """Plan a portfolio."""
    message = read_message(given(request), dispatch_service_pb2.PlanPortfolioRequest)
    message.request_id = message.request_id or str(uuid.uuid4())
    message.options.return_setpoints = setpoints is not None
    if setpoints is not None:
        _check_table(setpoints)
    creation = None if portfolio is None else _creation(portfolio, message.portfolio_id, currency)
    with transport(server, tenant) as channel:
        if creation is not None:
            created = channel.client_stream(CREATE_PORTFOLIO, creation.messages, timeout)
            message.portfolio_id = created.portfolio.portfolio_id
        stream = read_plan(channel, PLAN_PORTFOLIO, message, timeout)
    planned = stream.plan()
    if setpoints is not None and planned.setpoints_kw is not None:
        _write(planned.setpoints_kw, setpoints)
    assert stream.summary is not None  # else there were no plan
    typer.echo(pretty(plan_pb2.PlanSummary(plan=stream.summary.plan)))


def _creation(fleet: Path, portfolio_id: str, currency_code: str) -> PortfolioCreation:
    try:
        return PortfolioCreation.of(
            fleet, portfolio_id=portfolio_id, currency_code=currency_code, profiles=None, area_id="",
            validate_only=False, request_id="",
        )  # fmt: skip
    except InvalidRequestError as error:
        rows = "".join(f"\n  {v.field.removeprefix('fleet.')}: {v.description}" for v in error.violations)
        raise UsageError(f"{fleet} cannot be used as a fleet:{rows}") from None
    except OSError as error:
        raise UsageError(f"cannot read {fleet}: {error.strerror or error}") from None
    except (ImportError, ValueError) as error:
        raise UsageError(str(error)) from None


def _check_table(path: Path) -> None:
    """Refuse before the solve what could not be written after it."""
    if path.suffix not in TABLES:
        raise UsageError(f"--setpoints must end in {' or '.join(TABLES)}, is {path}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError(NEEDS_PYARROW)


def _write(setpoints_kw: pd.DataFrame, path: Path) -> None:
    """One row an asset, one column a step, named by its start (UTC); in CSV to the milliwatt."""
    table = setpoints_kw.set_axis(pd.DatetimeIndex(setpoints_kw.columns).strftime("%Y-%m-%dT%H:%M:%SZ"), axis="columns")
    try:
        if path.suffix == ".parquet":
            table.to_parquet(path)
        else:
            table.round(6).to_csv(path, lineterminator="\n")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
