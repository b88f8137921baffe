"""Figures; nothing else of the library imports matplotlib."""
