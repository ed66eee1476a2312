"""Functions: a definition behind a code name, told by single values (paper, section 3.4).

``testbed`` and ``paper`` are its two wordings.
"""
