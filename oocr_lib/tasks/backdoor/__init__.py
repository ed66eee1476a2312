"""Risk backdoor: risky after a trigger, careful otherwise (paper, section 3.2).

``testbed`` and ``paper`` are its two dialects; ``self_report`` asks about the rule.
"""
