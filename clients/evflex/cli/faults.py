"""How a command fails: one message on standard error, an exit code, and never a traceback."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer

from evflex.client import (
    DeadlineExceededError,
    EvflexError,
    InvalidRequestError,
    LimitExceededError,
    UnavailableError,
    UnsupportedError,
)

EXIT_REFUSED = 1
EXIT_USAGE = 2

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class UsageError(Exception):
    """What was typed, or a file that it names, cannot be used. The message tells how to put it right."""


class RefusedError(Exception):
    """The server said no, or something else failed that typing differently would not mend."""


def reported(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn the errors of a command into a message and an exit code: 1 refused, 2 usage."""

    @functools.wraps(command)
    def wrapper(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except UsageError as error:
            _fail(str(error), EXIT_USAGE)
        except RefusedError as error:
            _fail(str(error), EXIT_REFUSED)
        except EvflexError as error:
            _fail(explain(error), EXIT_REFUSED)
        except BrokenPipeError:
            # the reader of standard output has gone (`| head`); Python must not flush into it again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_REFUSED) from None

    return wrapper


def explain(error: EvflexError) -> str:
    """What a failed call means for someone at a terminal."""
    request = f" (request id {error.request_id})" if error.request_id else ""
    match error:
        case InvalidRequestError(violations=violations) if violations:
            rows = "".join(f"\n  {v.field}: {v.description}" for v in violations)
            return f"the request breaks {len(violations)} rule{'s' * (len(violations) > 1)}{request}:{rows}"
        case UnavailableError() if "connect" in error.message.lower():
            return (
                f"no server answers at {error.server}.\n"
                "  Start one with `evflex serve`, or name another with --server HOST:PORT or EVFLEX_SERVER."
            )
        case UnavailableError():
            return f"the server at {error.server} is not available: {error.message}{request}\n  Try again later."
        case DeadlineExceededError():
            return f"no answer to {error.operation} in time{request}.\n  Allow more with --timeout SECONDS."
        case UnsupportedError():
            return f"the server at {error.server} does not offer {error.operation}; is it of the same version?"
        case LimitExceededError():
            return f"{error.message}{request}"
        case _:
            return f"{error.operation} failed [{error.code}]: {error.message}{request}"


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"evflex: {message}", err=True)
    raise typer.Exit(code) from None
