"""What stands in for AWS: Step Functions, Lambda, S3, Secrets Manager, SSM and logs, on a port of its own.

It does not enforce what AWS does: 25,000 events, payloads of 256 KiB, MaxDelaySeconds, policies; and it gives
the variables of an `Assign` one by one, where AWS gives them at once. test_definition.py looks at those.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import psutil

from snowmelt.demo.place import free_port

REPOSITORY = Path(__file__).parents[2]
TOOLS = REPOSITORY / ".venv-aws"
REGION = "us-east-1"
ROLE = "arn:aws:iam::000000000000:role/any"
_SERVICES = "lambda,stepfunctions,s3,iam,sts,logs,secretsmanager,ssm,cloudwatch"
_START_SECONDS = 30.0


class Ministack:
    """A running server and the processes of its functions."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process = process
        self._clients: dict[str, Any] = {}
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def client(self, service: str) -> Any:
        """A client of boto3 for one of the services. Each is made once: that takes longer than most requests."""
        if service not in self._clients:
            self._clients[service] = boto3.client(
                service,
                endpoint_url=self.url,
                region_name=REGION,
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )
        return self._clients[service]

    def processes(self, function: str) -> list[psutil.Process]:
        """The processes that are, or wait to be, an invocation of the function."""
        found = []
        for process in self._children():
            with suppress(psutil.Error):
                if process.environ().get("AWS_LAMBDA_FUNCTION_NAME") == function:
                    found.append(process)
        return found

    def stop(self) -> None:
        """End the server and what it has started, each by its id."""
        children = self._children()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for child in children:
            with suppress(psutil.Error):
                child.kill()

    def _children(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return psutil.Process(self._process.pid).children(recursive=True)
        return []


@contextmanager
def ministack(wait_scale: float = 0.002) -> Iterator[Ministack]:
    """A server for as long as the block lasts; `wait_scale` shortens waits and pauses before a retry."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ministack-") as home:
        log = Path(home) / "ministack.log"
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("AWS_")},
            "BIND_HOST": "127.0.0.1",  # every address of the machine unless told
            "GATEWAY_PORT": str(port),
            "SERVICES": _SERVICES,
            "SFN_WAIT_SCALE": str(wait_scale),
            "PERSIST_STATE": "0",
            "S3_PERSIST": "0",
            "TMPDIR": home,
        }
        with log.open("wb") as out:
            process = subprocess.Popen(
                [TOOLS / "bin" / "python", "-m", "ministack"],
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        server = Ministack(process, port, log)
        try:
            _wait_for(server, process)
            yield server
        finally:
            server.stop()


def _wait_for(server: Ministack, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.urlopen(server.url + "/_ministack/health").close()
        except OSError:
            assert process.poll() is None, server.log.read_text()
            assert time.monotonic() < end, "the stand-in for AWS did not start"
            time.sleep(0.05)
        else:
            return
