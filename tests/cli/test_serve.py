"""`evflex serve`: a flag for every setting, and a clean end."""

from __future__ import annotations

import signal
import socket
import tomllib
from pathlib import Path

import pytest

from evflex.server.settings import Settings
from tests.cli.conftest import Run
from tests.cli.serving import server_process


def test_every_setting_has_a_flag(run: Run) -> None:
    shown = run("serve", "--help").stdout
    missing = [name for name in Settings.model_fields if f"--{name.replace('_', '-')}" not in shown]
    assert missing == []


def test_flags_are_shown_as_settings(run: Run) -> None:
    result = run("serve", "--listen", "127.0.0.1:7", "--rpc-threads", "3", "--no-warm-up", "--show-settings")
    assert result.exit_code == 0, result.stderr
    shown = tomllib.loads(result.stdout)
    assert (shown["listen"], shown["rpc_threads"], shown["warm_up"]) == ("127.0.0.1:7", 3, False)


def test_flags_stand_above_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVFLEX_LISTEN", "127.0.0.1:8")
    assert tomllib.loads(run("serve", "--show-settings").stdout)["listen"] == "127.0.0.1:8"
    shown = run("serve", "--listen", "127.0.0.1:9", "--show-settings").stdout
    assert tomllib.loads(shown)["listen"] == "127.0.0.1:9"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--listen", "nowhere"], "--listen: must be host:port"),
        (["--rpc-threads", "many"], "--rpc-threads: "),
        (["--config-file", "no-such.toml"], "no-such.toml"),
        (["--listn", "127.0.0.1:0"], "--listn"),
    ],
)
def test_a_flag_that_cannot_be_used_is_a_usage_error(run: Run, flags: list[str], problem: str) -> None:
    result = run("serve", *flags, "--show-settings")
    assert result.exit_code == 2
    assert problem in result.stderr


def test_a_server_that_cannot_start_says_why(run: Run, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("serve", "--listen", listen, "--metrics-listen", "", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert f"could not start: cannot listen on {listen}" in result.stderr


def test_an_open_address_is_refused_without_consent(run: Run, tmp_path: Path) -> None:
    result = run("serve", "--listen", "0.0.0.0:0", "--data-dir", str(tmp_path))
    assert result.exit_code in (1, 2)
    assert "allow_insecure" in result.stderr


@pytest.mark.slow
def test_sigterm_ends_the_server_with_0(tmp_path: Path, run: Run) -> None:
    with server_process(tmp_path) as (process, address):
        assert run("call", "Health/Check", server=address).exit_code == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version").stdout.strip().count(".") >= 2


def test_help_names_every_command(run: Run) -> None:
    shown = run("--help").stdout
    assert all(command in shown for command in ("serve", "schedule", "call", "demo"))


def test_a_command_that_does_not_exist_is_a_usage_error(run: Run) -> None:
    assert run("scedule").exit_code == 2
