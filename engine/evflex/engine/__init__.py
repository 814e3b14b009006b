"""The numerical core of evflex: arrays in, arrays out, with no network, database or clock."""
