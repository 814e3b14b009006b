"""The `evflex` command line and its demo, which compose client and server."""
