"""The user whom the embedded servers run as, and what that user can reach.

Only the supervisor process uses this module, without the package's `__init__`: standard library only.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
from pathlib import Path
from typing import Any


class Account:
    """Whom the servers run as: ourselves, or for root somebody else, because Postgres refuses root."""

    def __init__(self, data: Path | None) -> None:
        self.spawn: dict[str, Any] = {}
        self.uid, self.gid = os.geteuid(), os.getegid()
        if self.uid != 0:
            return
        owner = data.stat() if data is not None and data.exists() else None
        if owner is not None and owner.st_uid != 0:
            self.uid, self.gid = owner.st_uid, owner.st_gid
        else:
            self.uid, self.gid = self._unprivileged()
        self.spawn = {"user": self.uid, "group": self.gid, "extra_groups": []}

    @staticmethod
    def _unprivileged() -> tuple[int, int]:
        for name in ("postgres", "nobody"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return entry.pw_uid, entry.pw_gid
        return 65534, 65534

    def can(self, mode: int, path: Path) -> bool:
        """Whether this account may access `path`, asked of the kernel by a child that became the account."""
        if not self.spawn:
            return os.access(path, mode)
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setgid(self.gid)
                os.setuid(self.uid)
                os._exit(0 if os.access(path, mode) else 1)
            finally:
                os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def can_enter(self, directory: str | Path) -> bool:
        """Whether this account may look things up in `directory`."""
        return self.can(os.X_OK, Path(directory))

    def admit(self, directory: Path) -> Path:
        """Make sure of a directory of ours that is private, but that this account may traverse."""
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o711 if self.spawn else 0o700)
        return directory

    def own(self, path: Path) -> Path:
        """Make sure of a private directory of this account's."""
        path.mkdir(mode=0o700, exist_ok=True)
        if self.spawn:
            os.chown(path, self.uid, self.gid)
        return path

    def executable(self, binary: Path, tree: Path, staging: Path) -> Path:
        """The binary, or a copy of the tree that it belongs to if the account can't reach it, as below /root."""
        if not self.spawn or self.can(os.R_OK | os.X_OK, binary):
            return binary
        copy = staging / tree.parent.name / tree.name
        # Where the programs of a repaired wheel look for libraries, relative to themselves.
        libraries = tree.parent.with_name(f"{tree.parent.name}.libs")
        for source, target in ((tree, copy), (libraries, staging / libraries.name)):
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True)
            elif source.exists():
                target.parent.mkdir()
                shutil.copy2(source, target)
        for file in staging.rglob("*"):
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
        return copy / binary.relative_to(tree)
