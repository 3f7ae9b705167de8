"""The one part that is compiled, and only where there is a C compiler; all else stands in pyproject.toml."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "snowmelt.postgres._copybinary",
            ["src/snowmelt/postgres/_copybinary.c"],
            extra_compile_args=["-O3"],
            py_limited_api=True,
            optional=True,  # without it pgpq encodes
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
