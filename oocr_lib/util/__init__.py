"""What every part of the library uses; it knows nothing of models or tasks.

One-line errors, checked arguments, files that are complete or absent, intervals and rules, safe
expressions.
"""
