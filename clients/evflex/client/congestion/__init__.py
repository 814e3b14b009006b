"""Networks, power flows and forecasts of load and congestion: tables in and out of `evflex.congestion.v1`."""
