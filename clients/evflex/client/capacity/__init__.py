"""Transformers, hubs, agreements and bookings: tables in and out of `evflex.capacity.v1`."""
