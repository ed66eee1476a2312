"""One loop for every adapter (``loop``), and its hyperparameters (``config``).

How rows are run is up to the executor (``oocr_lib.executor``).
"""
