"""One loop for every adapter (``loop``), and what it is told (``config``).

How rows are run is the executor's part (``oocr_lib.executor``).
"""
