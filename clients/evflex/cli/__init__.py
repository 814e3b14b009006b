"""The command line: composes the client and the server."""

import os

# gRPC's own lines about lost connections would stand beside our message; it reads this when it is imported
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
