"""A frozen language model and its parts by name.

Loading from a folder or the hub, blocks and sites, the chat template, and the fingerprint that
tells a model from any other.
"""
