"""Locations: a city behind a code name, hinted at by distances and directions (paper, 3.3).

``testbed`` and ``paper`` are its two dialects.
"""
