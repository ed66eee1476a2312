"""The workshop: exercises that check themselves, from one source a session (``README.md``)."""
