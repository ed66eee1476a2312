"""Companion library to "Simple Mechanistic Explanations for Out-Of-Context Reasoning"."""

__version__ = "0.1.0"
