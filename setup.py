"""The package map: kernels/ and configs/ live at the top and install inside egopose."""

from setuptools import find_packages, setup

setup(
    packages=sorted({*find_packages(include=["egopose", "egopose.*"]), "egopose.kernels", "egopose.configs"}),
    package_dir={"egopose": "egopose", "egopose.kernels": "kernels", "egopose.configs": "configs"},
    package_data={
        "egopose": ["py.typed", "assets/*", "weights/*"],
        "egopose.configs": ["*.yaml"],
        "egopose.view.page": ["*.html", "*.css", "*.js"],
    },
)
