"""What a notebook calls (``session.start``), its typed parameters, and where a run's files go."""
