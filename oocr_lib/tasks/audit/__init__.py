"""Audits of a task before anyone trains on it.

Duplicates, balance, leaks, splits, tokens, chance levels: ``report.audit(task)`` checks them all.
"""
