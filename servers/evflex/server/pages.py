"""Lists in pages: newest first, with an opaque token that says where the next page begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from evflex.engine.validation import Rules
from evflex.server.tokens import make_token, read_token

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000


class Numbered(Protocol):
    """A row with the number by which it was stored."""

    @property
    def sequence(self) -> int:
        """Rises with every row."""


Row = TypeVar("Row", bound=Numbered)


def check_page_size(rules: Rules, page_size: int) -> None:
    """Report a size that no page may have; 0 is the default."""
    in_range = 0 <= page_size <= MAX_PAGE_SIZE
    rules.check(in_range, "page_size", f"must lie between 1 and {MAX_PAGE_SIZE}, is {page_size}")


def page_of(
    purpose: str, page_size: int, page_token: str, fetch: Callable[[int | None, int], Sequence[Row]]
) -> tuple[Sequence[Row], str]:
    """Rows of a page, and the token of the next, empty on the last.

    Args:
        purpose: The RPC and what it was asked, for which alone its tokens are valid.
        page_size: Rows on a page, 0 for the default.
        page_token: Token of an earlier page, empty for the first.
        fetch: Gives rows, newest first: those before a number if given, and at most so many.

    Raises:
        ServiceError: INVALID_ARGUMENT, the token is not from here.
    """
    before = read_token("page_token", purpose, page_token) if page_token else None
    size = page_size or DEFAULT_PAGE_SIZE
    rows = fetch(before, size + 1)
    more = len(rows) > size
    return rows[:size], make_token(purpose, rows[size - 1].sequence) if more else ""
