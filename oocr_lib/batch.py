"""Alias: ``python -m oocr_lib.batch`` runs notebooks, as ``oocr run`` does."""

import sys

from oocr_lib.runner.batch import main
from oocr_lib.runner.utf8 import in_utf8

if __name__ == "__main__":
    in_utf8()
    sys.exit(main())
