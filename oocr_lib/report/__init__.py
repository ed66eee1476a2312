"""The results: metrics files, claims with their verdicts, figures, and numbers in prose."""
