"""Everything about a server that can be set, by flag, environment or file."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from sqlalchemy.engine import make_url

ENVIRONMENT_PREFIX = "EVFLEX_"
CONFIG_VARIABLE = "EVFLEX_CONFIG_FILE"
MEBIBYTE = 1 << 20
_CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Days = Annotated[float, Field(gt=0.0, le=36_525.0)]


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "evflex"


def _default_portfolio_memory_bytes() -> int:
    """Two fifths of the machine's memory, or of what its container may use."""
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # absent or "max": no limit
        machine_bytes = min(machine_bytes, int(_CONTAINER_MEMORY.read_text(encoding="ascii")))
    return machine_bytes * 2 // 5


class Settings(BaseSettings):
    """Settings of a server: keyword arguments override `EVFLEX_…` variables, which override the TOML file.

    The file is `config_file`, or the one that EVFLEX_CONFIG_FILE names; its keys are the fields below.
    """

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, extra="forbid", frozen=True)

    config_file: Path | None = Field(default=None, description="TOML file with any of these settings")

    listen: str = Field(default="127.0.0.1:50151", description="host:port of the API; port 0 takes a free one")
    metrics_listen: str = Field(
        default="127.0.0.1:50152",
        description="host:port of the Prometheus metrics; port 0 takes a free one, empty is off",
    )
    allow_insecure: bool = Field(
        default=False, description="listen beyond loopback without encryption or authentication"
    )
    reuse_port: bool = Field(default=False, description="share the port with other processes (one server a core)")
    default_tenant: str = Field(default="default", description="tenant of a caller who names none")

    data_dir: Path = Field(default_factory=_default_data_dir, description="folder of the embedded database")
    database_url: str = Field(default="", description="SQLAlchemy URL of the database; empty is SQLite in data_dir")
    sqlite_synchronous: Literal["FULL", "NORMAL"] = Field(
        default="FULL",
        description="NORMAL stores faster; a power cut may then lose the last schedules, never damage any",
    )

    change_retention_days: Days = Field(
        default=30.0, description="age at which a change is forgotten; a watch cannot be resumed before it"
    )
    request_retention_days: Days = Field(
        default=30.0, description="age at which a request_id is forgotten; repeating it then is a new request"
    )

    rpc_threads: Count = Field(default=128, description="unary RPCs served at the same time; more are refused")
    solve_threads: Count = Field(
        default_factory=lambda: os.cpu_count() or 1, description="solves that run at the same time"
    )
    solve_queue_limit: Annotated[int, Field(ge=0)] = Field(
        default=64, description="solves that wait for a thread; more are refused with UNAVAILABLE"
    )
    max_streams: Count = Field(default=16, description="OptimizeSchedules streams at the same time")
    stream_sites_in_flight: Count = Field(
        default=128, description="sites of one stream that are read and not yet answered; a large one counts as several"
    )
    max_dispatch_streams: Count = Field(
        default=32, description="CreatePortfolio, UpdatePortfolio, PlanPortfolio and GetPlan streams at the same time"
    )
    max_worst_values: Count = Field(
        default=16_000_000, description="steps times branches and twice the buses of a forecast with worst values"
    )
    max_congestion_streams: Count = Field(
        default=16,
        description="streams of CongestionService at the same time: imports, networks, power flows and forecasts",
    )
    max_activation_streams: Count = Field(
        default=16, description="CheckCommitments and ExportAudit streams at the same time"
    )
    max_conflict_watches: Count = Field(default=500, description="WatchConflicts streams at the same time")
    max_capacity_tracks: Count = Field(default=64, description="TrackCapacity streams at the same time")
    max_capacity_watches: Count = Field(default=500, description="WatchCapacity streams at the same time")
    max_watches: Count = Field(default=500, description="WatchSchedules streams at the same time")

    max_message_bytes: Count = Field(default=16 * MEBIBYTE, description="largest request message")
    max_unary_answer_bytes: Count = Field(default=3 * MEBIBYTE, description="largest answer of a unary RPC")
    max_sessions: Count = Field(default=20_000, description="sessions of one site")
    max_steps: Count = Field(default=35_136, description="steps of a time grid")
    max_session_steps: Count = Field(default=2_000_000, description="sessions times steps of one site")
    max_nodes: Count = Field(default=2_000, description="nodes of one site's tree")
    max_node_steps: Count = Field(default=2_000_000, description="nodes times steps of one site")
    max_portfolio_assets: Count = Field(default=5_000_000, description="assets of one portfolio")
    max_portfolio_groups: Count = Field(default=10_000, description="groups and operators of one portfolio")
    max_portfolio_memory_bytes: Count = Field(
        default_factory=_default_portfolio_memory_bytes,
        description="memory of all portfolios that are used or coming in; by default two fifths of the machine's",
    )
    max_plan_series_steps: Count = Field(
        default=1_000_000, description="groups, limits and reserves together, times steps of one plan"
    )
    max_import_bytes: Count = Field(default=64 * MEBIBYTE, description="files of one imported network, together")
    max_import_files: Count = Field(default=64, description="files of one imported network")
    max_prepared_networks: Count = Field(default=8, description="networks kept in memory, ready for power flows")
    max_hubs: Count = Field(default=2_000, description="hubs of one transformer")
    max_hub_steps: Count = Field(default=40_000, description="hubs times steps of one allocation")
    max_hub_sessions: Count = Field(default=20_000, description="sessions of all hubs of one allocation")
    max_agreement_booked_steps: Count = Field(
        default=1_000_000, description="steps of all bookings of one agreement that are neither released nor over"
    )
    max_watched_sites: Count = Field(default=10_000, description="sites that one watch may name")
    max_watched_hubs: Count = Field(default=10_000, description="hubs that one watch may name")

    max_open_holds: Count = Field(default=10_000, description="held commitments of one aggregator")
    max_hold_s: Seconds = Field(default=3_600.0, description="longest time that a commitment is held")
    max_clock_skew_s: Seconds = Field(
        default=60.0, description="how far ahead of this server's clock a vehicle may be plugged in or unplugged"
    )
    max_check_rows: Count = Field(default=1_000_000, description="rows of one CheckCommitments batch")
    max_check_conflicts: Count = Field(default=10_000, description="conflicts that a CheckCommitments batch tells")

    default_deadline_s: Seconds = Field(default=30.0, description="time of a unary solve whose caller sets no deadline")
    stream_default_deadline_s: Seconds = Field(default=600.0, description="the same for RPCs that stream")
    max_upload_silence_s: Seconds = Field(
        default=30.0, description="an import that sends nothing this long is given up"
    )
    deadline_margin_s: Seconds = Field(default=0.25, description="kept back from a deadline to encode, store and send")
    retry_delay_s: Seconds = Field(default=1.0, description="told to callers who are refused with UNAVAILABLE")
    drain_grace_s: Annotated[float, Field(ge=0.0)] = Field(default=30.0, description="given to running RPCs on SIGTERM")

    watch_poll_s: Seconds = Field(default=0.5, description="how often changes by other processes are looked for")
    watch_heartbeat_s: Seconds = Field(default=15.0, description="silence after which a watch sends a heartbeat")
    watch_queue_limit: Count = Field(
        default=256, description="changes kept for a watcher before it is dropped as too slow"
    )
    watch_stall_s: Seconds = Field(
        default=30.0, description="a dropped watcher that reads nothing this long is cut off"
    )

    warm_up: bool = Field(default=True, description="compile the kernels before health reports SERVING")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least level logged")
    otel_endpoint: str = Field(default="", description="OTLP/gRPC endpoint for traces; empty is off")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: keyword arguments, environment, file."""
        named = init_settings().get("config_file") or os.environ.get(CONFIG_VARIABLE)
        if not named:
            return init_settings, env_settings
        if not Path(named).is_file():
            raise FileNotFoundError(f"config_file does not exist: {named}")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=Path(named))

    @field_validator("listen", "metrics_listen")
    @classmethod
    def _has_host_and_port(cls, address: str) -> str:
        if address:
            split_address(address)
        return address

    @field_validator("default_tenant")
    @classmethod
    def _tenant_is_plain(cls, tenant_id: str) -> str:
        if not tenant_id or len(tenant_id) > 64 or not tenant_id.replace("-", "").replace("_", "").isalnum():
            raise ValueError("must be 1 to 64 letters, digits, hyphens or underscores")
        return tenant_id

    @property
    def resolved_database_url(self) -> str:
        """URL of the database, the embedded one where none is set."""
        return self.database_url or f"sqlite:///{self.data_dir.expanduser() / 'evflex.sqlite3'}"

    def shown(self) -> str:
        """All settings as TOML, with the meaning of each; passwords are hidden."""
        lines = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name == "database_url" and value:
                value = make_url(value).render_as_string(hide_password=True)
            lines.append(f"# {field.description}")
            lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
        return "\n".join(lines) + "\n"


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`; an IPv6 host stands in brackets.

    Raises:
        ValueError: The address has no host, or no port from 0 to 65535.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"must be host:port with a port from 0 to 65535, is {address!r}")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
