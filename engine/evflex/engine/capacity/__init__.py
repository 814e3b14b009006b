"""Capacity of transformers: temperatures and headroom, shared between charging hubs, in planning and in real time."""
