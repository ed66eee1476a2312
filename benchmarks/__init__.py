"""Benchmarks: measured here, interleaved, in one run each; tables of results in REPRODUCE.md."""
