"""What the server keeps: schedules, the requests that made them, and a log of changes."""
