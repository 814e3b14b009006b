"""Flags override the environment, which overrides the file; what cannot work is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evflex.server.app import InsecureListenError, Server
from evflex.server.settings import Settings
from tests.server.support import FakeEngine, settings_for


def test_flag_overrides_environment_overrides_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "evflex.toml"
    file.write_text('max_sessions = 1\nmax_steps = 2\nmax_nodes = 3\nlog_level = "debug"\n')
    monkeypatch.setenv("EVFLEX_MAX_STEPS", "20")
    monkeypatch.setenv("EVFLEX_MAX_NODES", "30")
    monkeypatch.setenv("EVFLEX_CONFIG_FILE", str(file))
    settings = Settings(max_nodes=300)
    assert (settings.max_sessions, settings.max_steps, settings.max_nodes) == (1, 20, 300)
    assert settings.log_level == "debug"


def test_named_file_overrides_the_one_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.toml").write_text("max_sessions = 1\n")
    (tmp_path / "b.toml").write_text("max_sessions = 2\n")
    monkeypatch.setenv("EVFLEX_CONFIG_FILE", str(tmp_path / "a.toml"))
    assert Settings(config_file=tmp_path / "b.toml").max_sessions == 2


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        Settings(config_file=tmp_path / "none.toml")


def test_misspelt_key_of_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "evflex.toml"
    file.write_text("max_sesions = 1\n")
    with pytest.raises(ValidationError, match="max_sesions"):
        Settings(config_file=file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", "localhost"),
        ("listen", "127.0.0.1:99999"),
        ("listen", ":80"),
        ("metrics_listen", "here"),
        ("default_tenant", ""),
        ("default_tenant", "a b"),
        ("solve_threads", 0),
        ("default_deadline_s", 0.0),
        ("sqlite_synchronous", "OFF"),
    ],
)
def test_value_that_cannot_work_is_refused(name: str, value: object) -> None:
    values: dict[str, Any] = {name: value}
    with pytest.raises(ValidationError, match=name):
        Settings(**values)


def test_shown_settings_are_a_file_that_gives_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(max_sessions=7, data_dir=tmp_path / 'odd "name"', allow_insecure=True)
    file = tmp_path / "shown.toml"
    file.write_text(settings.shown())
    assert tomllib.loads(settings.shown())["max_sessions"] == 7
    assert Settings(config_file=file).model_dump(exclude={"config_file"}) == settings.model_dump(
        exclude={"config_file"}
    )


def test_shown_settings_hide_the_password() -> None:
    shown = Settings(database_url="postgresql://user:secret@host/db").shown()
    assert "secret" not in shown
    assert "postgresql://user:***@host/db" in shown


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0"])
def test_insecure_listening_beyond_loopback_must_be_allowed(tmp_path: Path, listen: str) -> None:
    with pytest.raises(InsecureListenError, match="allow_insecure"):
        Server(settings_for(tmp_path, listen=listen), engine=FakeEngine())


def test_insecure_listening_beyond_loopback_can_be_allowed(tmp_path: Path) -> None:
    with Server(settings_for(tmp_path, listen="0.0.0.0:0", allow_insecure=True), engine=FakeEngine()) as server:
        assert server.port > 0


def test_taken_port_is_an_error(tmp_path: Path) -> None:
    with Server(settings_for(tmp_path / "a"), engine=FakeEngine()) as first:
        second = Server(settings_for(tmp_path / "b", listen=f"127.0.0.1:{first.port}"), engine=FakeEngine())
        with pytest.raises(OSError, match="cannot listen"):
            second.start()


def test_store_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "evflex.sqlite3").mkdir()
    with pytest.raises(OSError, match="cannot open the store"):
        Server(settings_for(tmp_path), engine=FakeEngine()).start()
