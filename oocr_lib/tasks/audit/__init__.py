"""Audits of a task before anybody trains on it.

Duplicates, balance, leaks, splits, tokens, chance levels: ``report.audit(task)`` runs all of them.
"""
