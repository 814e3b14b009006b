"""The chapter `congestion`: a low-voltage feeder with heat pumps and cars on a cold evening."""
