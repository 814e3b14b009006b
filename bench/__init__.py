"""What must be reached, measured beside what others reach in the same run: `python -m bench`."""
