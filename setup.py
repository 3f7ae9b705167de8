"""What is compiled where there is a C compiler; all else stands in pyproject.toml."""

import platform
import sys

from setuptools import Extension, setup

# For Linux on arm64 pgpq has no wheel: without the compiler nothing would encode rows.
_OPTIONAL = (sys.platform, platform.machine()) != ("linux", "aarch64")
_FOLDER = "src/snowmelt/postgres"


def _compiled(name: str, *headers: str) -> Extension:
    return Extension(
        f"snowmelt.postgres.{name}",
        [f"{_FOLDER}/{name}.c"],
        depends=[f"{_FOLDER}/{header}" for header in headers],
        extra_compile_args=["-O3"],
        py_limited_api=True,
        optional=_OPTIONAL,  # without it pgpq encodes, and pyarrow looks at the values
    )


setup(
    ext_modules=[_compiled("_copybinary", "_arrow.h"), _compiled("_values", "_arrow.h", "_json.h")],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
