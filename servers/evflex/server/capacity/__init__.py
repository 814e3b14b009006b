"""CapacityService: transformers rated, shared and tracked; agreements and bookings of their capacity."""
