"""Servers on loopback that models are fetched from, well-behaved and not."""
