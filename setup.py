"""What is compiled, and only where there is a C compiler; all else stands in pyproject.toml."""

from setuptools import Extension, setup

_FOLDER = "src/snowmelt/postgres"


def _compiled(name: str, *headers: str) -> Extension:
    return Extension(
        f"snowmelt.postgres.{name}",
        [f"{_FOLDER}/{name}.c"],
        depends=[f"{_FOLDER}/{header}" for header in headers],
        extra_compile_args=["-O3"],
        py_limited_api=True,
        optional=True,  # without it pgpq encodes, and pyarrow looks at the values
    )


setup(
    ext_modules=[_compiled("_copybinary", "_arrow.h"), _compiled("_values", "_arrow.h", "_json.h")],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
