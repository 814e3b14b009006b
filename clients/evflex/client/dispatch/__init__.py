"""Portfolios and their plans: tables in and out of `evflex.dispatch.v1`."""
