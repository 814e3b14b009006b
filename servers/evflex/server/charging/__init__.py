"""ChargingService: requests to problems, plans to answers, and what is stored and watched."""
