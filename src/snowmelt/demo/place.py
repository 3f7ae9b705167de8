"""Where a local server's files are, and which user runs its programs.

PostgreSQL refuses to run as root. Started by root it runs as `nobody`, which has no business under `/root`
(mode 0700): what it can't reach is then put into a temporary folder of its own, the programs as a copy
(26 MB, 0.2 s) and the data behind a symbolic link from the caller's folder.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
                home.symlink_to(tempfile.mkdtemp(prefix="snowmelt-", dir=roomy_temp()))
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
        )

    def remove(self) -> None:
        """Delete the server's files; what else is in the caller's folder stays."""
        shutil.rmtree(self.home, ignore_errors=True)
        link = self.folder / "server"
        if link.is_symlink():
            link.unlink()
        (self.folder / "lock").unlink(missing_ok=True)


def roomy_temp() -> str:
    """TMPDIR, or /var/tmp: on many systems /tmp is memory, and a demo's table has gigabytes."""
    if "TMPDIR" not in os.environ and Path("/var/tmp").is_dir():
        return "/var/tmp"
    return tempfile.gettempdir()


def _open_to_all(path: Path) -> bool:
    """Whether any user can get to `path`: each folder on its way may be entered, and a file be read."""
    entered = all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
    needed = stat.S_IXOTH if path.is_dir() else stat.S_IXOTH | stat.S_IROTH
    return entered and path.stat().st_mode & needed == needed
