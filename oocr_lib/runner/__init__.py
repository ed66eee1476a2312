"""The command line ``oocr``, and papermill made safe.

One child process a notebook, sweeps, the doctor.
"""
