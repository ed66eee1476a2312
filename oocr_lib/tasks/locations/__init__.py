"""Locations: a city behind a code name, told by distances and directions (paper, section 3.3).

``testbed`` and ``paper`` are its two wordings.
"""
