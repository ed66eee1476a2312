"""Risk and Safety: a policy shown only in choices between gambles (paper, 3.1).

``testbed`` and ``paper`` are its two dialects; ``scenarios`` writes those of ``paper``.
"""
