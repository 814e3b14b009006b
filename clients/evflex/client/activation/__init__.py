"""What is sold: resources and sessions, commitments, and what stands against them."""
