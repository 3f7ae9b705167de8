"""The function in the official runtime emulator, and what it writes."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from snowmelt.demo.place import free_port

ROOT = Path(__file__).parents[2]
BINARY = (
    ROOT
    / ".venv-aws"
    / "bin"
    / ("aws-lambda-rie-arm64" if platform.machine() == "aarch64" else "aws-lambda-rie-x86_64")
)
HANDLER = "snowmelt.aws.lambda_handler.handler"
_PATH = "/2015-03-31/functions/function/invocations"


@dataclass(frozen=True, slots=True)
class Function:
    """A function that is up. Its log has what the function, its runtime and the emulator wrote."""

    url: str
    log: Path

    def invoke(self, event: object, seconds: float = 120) -> Any:
        """What the function answers, or the error that it ends with."""
        request = urllib.request.Request(
            self.url, json.dumps(event).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=seconds) as response:
            return json.loads(response.read())

    def lines(self) -> list[dict[str, Any]]:
        """The function's lines that are JSON, in order."""
        found = []
        for line in self.log.read_text(encoding="utf-8").split("\n"):
            if line.startswith("{"):
                found.append(json.loads(line))
        return found

    def records(self) -> list[dict[str, Any]]:
        """Those of the log."""
        return [line for line in self.lines() if "logger" in line]

    def metrics(self) -> list[dict[str, Any]]:
        """Those of metrics."""
        return [line for line in self.lines() if "_aws" in line]


@contextmanager
def function(
    folder: Path,
    *,
    handler: str = HANDLER,
    timeout: int = 60,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Function]:
    """A function with an environment of its own, as Lambda starts it; ended with all it has started."""
    log = folder / "function.log"
    ports = [free_port() for _ in range(2)]
    command = [
        str(BINARY),
        *("--runtime-interface-emulator-address", f"127.0.0.1:{ports[0]}"),
        *("--runtime-api-address", f"127.0.0.1:{ports[1]}"),
        *(sys.executable, "-m", "awslambdaric", handler),
    ]
    variables = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "LAMBDA_TASK_ROOT": str(folder),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "2048",
        "AWS_EC2_METADATA_DISABLED": "true",
        **environment,
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=out, stderr=out, start_new_session=True
        )
    try:
        _wait_for(ports[0], process)
        yield Function(f"http://127.0.0.1:{ports[0]}{_PATH}", log)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while True:
        assert process.poll() is None, "the emulator ended"
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < until, "the emulator does not listen"
            time.sleep(0.05)
        else:
            return
