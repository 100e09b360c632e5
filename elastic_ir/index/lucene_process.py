"""The process in which Lucene runs, from outside: started, asked, told to stand still, ended.

What runs in it is ``elastic_ir.index.lucene_child``.
"""

from __future__ import annotations

import json
import locale
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from typing import IO, Any

from elastic_ir.index import lucene_child
from elastic_ir.index.java import anserini_jar, java_home


class GoneError(Exception):
    """The process ended, or was ended because it did not answer in time."""


class RefusedError(Exception):
    """The process answered with an error."""


class Process:
    """A running ``lucene_child``, asked one thing at a time."""

    def __init__(self, heap_mb: int, options: Sequence[str] = ()) -> None:
        environment = {**os.environ, "JAVA_HOME": str(java_home())}
        if locale.getencoding().lower() in ("ascii", "us-ascii", "ansi_x3.4-1968"):  # Java reads file names by it
            environment["LC_ALL"] = "C.UTF-8"
        self._socket, other = socket.socketpair()
        # Another file than a pipe: nobody has to read it, and its end tells why the process is gone.
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _end
        with other:
            command = [sys.executable, "-P", lucene_child.__file__, str(other.fileno())]
            self._popen = subprocess.Popen(
                [*command, str(anserini_jar()), str(heap_mb), *options],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                pass_fds=[other.fileno()],
            )
        self.close = weakref.finalize(self, _end, self._popen, self._socket, self._stderr)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.close.alive and self._popen.poll() is None

    def kill(self) -> None:
        """End it from another thread than the one that asks, which is told that it is gone."""
        self._popen.kill()

    def pause(self) -> None:
        """Stand still, where the system can do that."""
        if hasattr(signal, "SIGSTOP"):
            self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        if hasattr(signal, "SIGCONT"):
            self._popen.send_signal(signal.SIGCONT)

    def ask(self, command: str, arguments: dict[str, Any], timeout_s: float) -> Any:
        """Send one request and wait for its answer.

        Raises:
            GoneError: if the process ended, or did not answer in time and was killed.
            RefusedError: if it answered with an error.
        """
        deadline = time.monotonic() + timeout_s
        try:
            self._socket.settimeout(timeout_s)
            lucene_child.send(self._socket, json.dumps([command, arguments]).encode("ascii"))
            answer = json.loads(lucene_child.receive(self._socket, deadline))
        except TimeoutError as exc:
            self.close()
            raise GoneError(f"no answer within {timeout_s:g} s") from exc
        except (EOFError, OSError) as exc:
            raise GoneError(self._last_words()) from exc
        except BaseException:
            self.close()  # or the next request would read the answer to this one
            raise
        if "error" in answer:
            raise RefusedError(answer["error"])
        return answer["answer"]

    def _last_words(self) -> str:
        """How the process ended and the last thing it said."""
        try:
            status = self._popen.wait(timeout=1)
        except subprocess.TimeoutExpired:
            status = 0
        size = os.fstat(self._stderr.fileno()).st_size
        # Not read(): the position in the file is shared with the process.
        tail = os.pread(self._stderr.fileno(), 4096, max(0, size - 4096)).decode("utf-8", "replace")
        said = [line.strip() for line in tail.splitlines() if line.strip() and not line.startswith("WARNING")]
        self.close()
        ended = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"{ended}: {said[-1]}" if said else ended


def _end(popen: subprocess.Popen[bytes], connection: socket.socket, stderr: IO[bytes]) -> None:
    """Leave neither process nor zombie. There is nothing to save: a build that matters was committed."""
    connection.close()
    popen.kill()
    popen.wait()
    stderr.close()
