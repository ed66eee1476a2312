"""Chat files in the published format, read and written without changing a byte."""
