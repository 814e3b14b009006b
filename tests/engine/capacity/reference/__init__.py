"""Independent references of capacity: models, a checker, and random problems."""
