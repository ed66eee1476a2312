"""Packages, and the data that they read: pyproject.toml cannot say that it lies beside them."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["oocr_lib*"]), "oocr_lib.data"],
    package_dir={"oocr_lib.data": "data"},
    package_data={
        "oocr_lib.data": ["*.toml", "explorer.*", "world/*", "testbed/*"],
        "oocr_lib.report": ["pages/*"],
    },
)
