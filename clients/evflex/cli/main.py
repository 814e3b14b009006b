"""The command `evflex`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
import typer.core

from evflex.cli.allocate import allocate
from evflex.cli.call import call, schedule
from evflex.cli.check import check
from evflex.cli.demo.command import demo
from evflex.cli.forecast import forecast
from evflex.cli.plan import plan


class Commands(typer.core.TyperGroup):
    """Commands of which `serve` is built when it is used: its flags need the server's settings."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands, the server first."""
        return ["serve", *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name; None where there is none."""
        if cmd_name != "serve":
            return super().get_command(ctx, cmd_name)
        from evflex.cli import serve

        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command("serve")(serve.command())
        return typer.main.get_command(single)


app = typer.Typer(
    name="evflex",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Optimisation and control of electric-vehicle flexibility over gRPC.",
)
app.command()(schedule)
app.command()(plan)
app.command()(allocate)
app.command()(forecast)
app.command()(check)
app.command()(call)
app.command()(demo)


@app.callback(invoke_without_command=True)
def evflex(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Optimisation and control of electric-vehicle flexibility over gRPC."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("evflex"))
        raise typer.Exit


if __name__ == "__main__":
    app()
