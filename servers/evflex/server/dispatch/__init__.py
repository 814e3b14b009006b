"""DispatchService: portfolios that stay with the server, and their plans."""
