"""Lambda functions in the stand-in: real processes under the official runtime client."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from tests.aws.ministack import REPOSITORY, ROLE, Ministack

# With a runtime of its own choice the stand-in tells every exception as one error, which no Retry would match.
_RUNTIME = "provided.al2023"
_BOOTSTRAP = f"""#!/bin/sh
cd "{REPOSITORY}" && exec "{sys.executable}" -m awslambdaric "$_HANDLER"
"""


@dataclass(frozen=True, slots=True)
class Function:
    """A deployed function."""

    cloud: Ministack
    name: str
    arn: str

    def processes(self) -> list[psutil.Process]:
        return self.cloud.processes(self.name)


@contextmanager
def deployed(
    cloud: Ministack,
    name: str,
    handler: str,
    environment: Mapping[str, str],
    *,
    timeout: int = 10,
    memory: int = 512,
) -> Iterator[Function]:
    """A function for as long as the block lasts. `timeout` in seconds, `memory` in MB: nobody enforces that."""
    client = cloud.client("lambda")
    made = client.create_function(
        FunctionName=name,
        Runtime=_RUNTIME,
        Role=ROLE,
        Handler=handler,
        Timeout=timeout,
        MemorySize=memory,
        Environment={"Variables": {**environment, "AWS_ENDPOINT_URL": cloud.url}},
        Code={"ZipFile": _archive()},
    )
    client.get_waiter("function_active_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 200}
    )
    function = Function(cloud, name, made["FunctionArn"])
    try:
        yield function
    finally:
        client.delete_function(FunctionName=name)
        for process in function.processes():
            process.kill()


def _archive() -> bytes:
    """A package with nothing but the bootstrap, which may be executed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        bootstrap = zipfile.ZipInfo("bootstrap")
        bootstrap.external_attr = 0o755 << 16
        archive.writestr(bootstrap, _BOOTSTRAP)
    return content.getvalue()
