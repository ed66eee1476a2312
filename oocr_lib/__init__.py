"""Companion library to "Simple Mechanistic Explanations for Out-Of-Context Reasoning"."""

import warnings

# tqdm, imported by transformers, asks for widgets that nothing here needs; in a notebook the
# warning would end up in the committed outputs.
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"
