"""`python -m snowmelt.standin`: run a server until its parent ends or it is told to stop."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import socket
import sys
import threading
from pathlib import Path

import uvicorn

from snowmelt.standin.app import application
from snowmelt.standin.connections import Protocol
from snowmelt.standin.logins import StandInUser
from snowmelt.standin.state import Settings


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m snowmelt.standin")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--folder", help="keeps databases as files; in memory without it")
    parser.add_argument("--rows-per-chunk", type=int, default=50_000)
    parser.add_argument("--inline-rows", type=int, default=1_000)
    parser.add_argument("--ready", type=Path, help="file to write the port into, once it listens")
    parser.add_argument("--certificate", help="PEM file: https in place of http, with --key")
    parser.add_argument("--key", help="PEM file of its private key")
    parser.add_argument(
        "--owned", action="store_true", help="settings come as a line on stdin; end when it ends"
    )
    return parser.parse_args()


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = Settings(arguments.folder, arguments.rows_per_chunk, arguments.inline_rows)
    if not arguments.owned:
        return settings
    # On stdin, because passwords on a command line can be seen by everybody.
    given = json.loads(sys.stdin.readline())
    given["users"] = tuple(StandInUser(**user) for user in given["users"])
    return dataclasses.replace(settings, **given)


def _end_with_owner() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    app = application(_settings(arguments))
    if arguments.owned:
        threading.Thread(target=_end_with_owner, daemon=True).start()
    # With its protocol named, which asyncio looks at: else small answers wait 40 ms for Nagle's algorithm.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", arguments.port))
    listener.listen(128)
    port = listener.getsockname()[1]
    logging.getLogger("snowmelt.standin").info("port %d, process %d", port, os.getpid())
    if arguments.ready is not None:
        part = arguments.ready.with_suffix(".part")
        part.write_text(str(port), encoding="utf-8")
        part.replace(arguments.ready)
    config = uvicorn.Config(
        app,
        http=Protocol,
        log_level="warning",
        access_log=False,
        ssl_certfile=arguments.certificate,
        ssl_keyfile=arguments.key,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
