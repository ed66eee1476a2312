"""Functions: a definition behind a code name, hinted at by single values (paper, section 3.4).

``testbed`` and ``paper`` are its two dialects.
"""
