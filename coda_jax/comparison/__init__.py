"""Conventional networks, trained and explained as CoDA-Nets are, to compare these with."""
