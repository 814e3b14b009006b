"""Rules of what a portfolio is called and refers to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evflex.engine.validation import Rules
from evflex.server.fields import check_id


def check_names(rules: Rules, lists: Mapping[str, Sequence[str]], known: Sequence[str] = ()) -> None:
    """Report names of groups and operators that are empty, malformed, or not unique among all lists and `known`."""
    seen = set(known)
    for path, names in lists.items():
        for i, name in enumerate(names):
            check_id(rules, f"{path}[{i}]", name, required=True)
            rules.check(name not in seen, f"{path}[{i}]", "must be unique among groups and operators")
            seen.add(name)
