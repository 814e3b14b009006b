"""The gRPC server of evflex: one thin servicer a domain, and what a service needs around it."""
