"""The Python client of the evflex API, with pandas and NumPy in and out."""
