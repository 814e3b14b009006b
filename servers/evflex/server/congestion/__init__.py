"""CongestionService: networks, power flows, and forecasts of load and congestion."""
