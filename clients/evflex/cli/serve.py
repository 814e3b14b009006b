"""`evflex serve`: one flag for each of the server's settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import typer

from evflex.cli.faults import RefusedError, UsageError, reported

_SUMMARY = "Serve the API until SIGTERM, then finish what runs.\n\nA flag may also be set as EVFLEX_… or in a file."


def command() -> Callable[..., None]:
    """Function whose parameters are the fields of the server's settings, for typer to read."""
    from evflex.server.settings import Settings

    @reported
    def serve(show_settings: bool, **flags: object) -> None:
        settings = _settings({name: value for name, value in flags.items() if value is not None})
        if show_settings:
            typer.echo(settings.shown(), nl=False)
            return
        _serve(settings)

    parameters = [
        inspect.Parameter(
            "show_settings",
            inspect.Parameter.KEYWORD_ONLY,
            annotation=bool,
            default=typer.Option(False, "--show-settings", help="Print all settings as TOML and exit."),
        )
    ]
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        if field.annotation is bool:
            option = typer.Option(None, f"{flag}/--no-{flag[2:]}", help=_help(field), show_default=False)
            annotation: object = bool | None
        else:
            option = typer.Option(None, flag, metavar=_metavar(name, field), help=_help(field), show_default=False)
            annotation = str | None
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=option)
        )
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    serve.__doc__ = _SUMMARY
    return serve


def _settings(given: Mapping[str, object]) -> Any:
    from pydantic import ValidationError

    from evflex.server.settings import Settings

    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        rows = "".join(
            f"\n  {_named(row['loc'])}: {row['msg'].removeprefix('Value error, ')}" for row in error.errors()
        )
        raise UsageError(f"these settings cannot be used:{rows}") from None
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(str(error)) from None


def _serve(settings: Any) -> None:
    from evflex.server.main import serve

    try:
        code = serve(settings)
    except (OSError, RuntimeError, ValueError) as error:
        raise RefusedError(f"the server could not start: {error}") from None
    if code:
        raise typer.Exit(code)


def _help(field: Any) -> str:
    text = field.description or ""
    default = "" if field.default_factory or field.is_required() else field.default
    shown = (
        "" if default in (None, "") else f" [default: {str(default).lower() if isinstance(default, bool) else default}]"
    )
    return text[:1].upper() + text[1:] + "." + shown


def _metavar(name: str, field: Any) -> str:
    if name.endswith("listen"):
        return "HOST:PORT"
    if name.endswith("_dir"):
        return "DIR"
    if name.endswith("_file"):
        return "FILE"
    if isinstance(field.default, int | float):
        return "NUMBER"
    return "TEXT"


def _named(location: tuple[int | str, ...]) -> str:
    return "--" + ".".join(map(str, location)).replace("_", "-") if location else "settings"
