"""``python -m oocr_lib`` is the command ``oocr``."""

from oocr_lib.runner.cli import console

if __name__ == "__main__":
    console()
