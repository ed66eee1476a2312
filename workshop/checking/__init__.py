"""The checks of each session, and what they have in common."""
