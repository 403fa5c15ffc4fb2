# SPDX-License-Identifier: MIT
"""The pidfile: who holds it, and when it is stale.

It decides that the lock is the truth, not the number in the file: a number can be another
process's by now, above all in containers, where they are small. The kernel lets the lock go
with the process, however that ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from prefork.errors import ConfigError


class Pidfile:
    """A locked pidfile.

    Args:
        path: where it is.

    Raises:
        ConfigError: another server holds it, or it cannot be made.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)  # a reload may change the folder
        try:
            self._fd = self._lock(self.path)
        except OSError as error:
            raise self._trouble(error) from error
        self.stale: int | None = _number(self._fd)
        """The pid that a server left here which did not end in peace; None otherwise."""

    def fileno(self) -> int:
        """Return the descriptor that holds the lock. A child must close it."""
        return self._fd

    def write(self, pid: int) -> None:
        """Write the pid into the file.

        Args:
            pid: of the arbiter.

        Raises:
            ConfigError: the disk is full.
        """
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{pid}\n".encode(), 0)
        except OSError as error:
            raise self._trouble(error) from error

    def move(self, path: str, *, in_use: bool = False) -> None:
        """Go to another path, in place of the file that is there.

        Args:
            path: where to.
            in_use: whether its holder has agreed, and is about to let go.

        Raises:
            ConfigError: another server holds that file, or it cannot be replaced.
        """
        path = os.path.abspath(path)
        holding = None
        try:
            holding = None if in_use else self._lock(path)
            os.replace(self.path, path)
        except OSError as error:
            raise self._trouble(error) from error
        finally:
            if holding is not None:
                os.close(holding)
        self.path = path

    def remove(self) -> None:
        """Remove the file if it is still ours, and let the lock go."""
        with contextlib.suppress(OSError):  # the folder may be gone; the lock goes anyway
            if _is_at(self.path, self._fd):
                os.unlink(self.path)
        os.close(self._fd)

    def close_in_child(self) -> None:
        """Close the descriptor after a fork; the lock stays with the parent."""
        os.close(self._fd)

    def _lock(self, path: str) -> int:
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = _number(fd)
                os.close(fd)
                raise ConfigError(
                    f"pidfile {path}: another server holds it (pid {holder or 'unknown'})",
                    hint="stop that one, or use another pidfile",
                ) from error
            except OSError:
                os.close(fd)
                raise
            if _is_at(path, fd):
                return fd
            os.close(fd)  # its last holder removed it between our open and our lock

    def _trouble(self, error: OSError) -> ConfigError:
        return ConfigError(f"pidfile {self.path}: {error.strerror}")


def _is_at(path: str, fd: int) -> bool:
    ours = os.fstat(fd)
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def _number(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
