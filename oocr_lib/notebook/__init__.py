"""What a notebook calls (``session.start``), and where a run's files go."""
