"""The public names: one's own model and data in five lines (``docs/api.md``)."""
