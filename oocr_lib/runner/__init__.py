"""The command line ``oocr``, and papermill made safe.

One child process per notebook, sweeps, the doctor.
"""
