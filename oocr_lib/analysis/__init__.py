"""Analyses: one question a file."""
