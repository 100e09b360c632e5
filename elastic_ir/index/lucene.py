"""BM25 by Anserini, the Java side of pyserini, in a process of its own.

Source: BM25 as in Lucene (Kamphuis et al. 2020, "Which BM25 Do You Mean?"); RM3 as in Anserini.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from elastic_ir.errors import (
    BackendError,
    ConfigError,
    IndexCorruptError,
    IndexNotFoundError,
    InputError,
    StartingError,
)
from elastic_ir.index.java import class_archive
from elastic_ir.index.lucene_process import GoneError, Process, RefusedError
from elastic_ir.records import in_run_order

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 120.0
BUILD_TIMEOUT_S = 3600.0  # for one batch of documents, or the final merge
PATIENCE_S = 1.0
"""Seconds from its start in which a new process stands still while searches go on."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Seconds between a start that failed and the next, while searches do not wait for one: first, and after many."""
QUICK_COMPILER = "-XX:TieredStopAtLevel=1"
_WARM_UP = 8
"""Requests of before that a new process is given first."""
_FIRST_SEARCH: dict[str, Any] = {"queries": ["warm up"], "k": 1, "threads": 1}
"""What it is given where there are none: nobody with a deadline should wait for Java's first search."""
_LARGEST_K = 2**31 - 1
_QUERIES_PER_REQUEST = 32
_DOCUMENTS_PER_REQUEST = 1000
_CHARACTERS_PER_REQUEST = 1_000_000


class LuceneResult(NamedTuple):
    """What one query found.

    ``hits`` are (doc_id, score) with score descending, ties by doc_id descending. ``cut`` is True when
    the query had more distinct terms than Lucene takes and only the rarest were searched for.
    """

    hits: list[tuple[str, float]]
    cut: bool


def build_lucene(
    documents: Iterable[tuple[str, str]], folder: Path, *, threads: int = 1, term_vectors: bool = True
) -> None:
    """Write the index that Anserini would: Porter stems, English stop words, fields ``id`` and ``contents``.

    In a new folder equal documents give equal files, but for the date in ``*.si``. As in Anserini, a document
    with blank contents is left out. An index that is in ``folder`` already is replaced.

    Args:
        documents: (doc_id, contents), with no doc_id twice.
        folder: made when missing.
        threads: that analyze and index; with more than one the files may differ each time.
        term_vectors: keep what RM3 needs; makes the index about four times as large.

    Raises:
        BackendError: if Java or Lucene fails, a full disk included.
        InputError: if ``threads`` is less than 1.
    """
    _check_threads(threads)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with closing(Process(heap_mb=512)) as lucene:
        try:
            settings = {"folder": str(folder.resolve()), "threads": threads, "term_vectors": term_vectors}
            lucene.ask("create", settings, START_TIMEOUT_S)
            for batch in _batches(documents):
                lucene.ask("add", {"documents": batch}, BUILD_TIMEOUT_S)
            lucene.ask("commit", {}, BUILD_TIMEOUT_S)
        except (GoneError, RefusedError) as exc:
            raise BackendError(f"Lucene could not write the index {folder}: {exc}") from exc


class LuceneIndex:
    """An index made by ``build_lucene`` or Anserini, searched under BM25. Safe to use from many threads.

    Its Java process starts with the first search, and anew when it was killed, crashed or hung; it ends
    with ``close()``, with this object, or with the interpreter.

    Args:
        folder: the Lucene index.
        k1: how soon a term's frequency saturates.
        b: how much a document's length counts.
        rm3: expand each query by 10 terms of its first 10 documents.
        timeout_s: after which a process that does not answer is killed, for at most 32 queries.
        heap_mb: memory of Java.
        java_options: more for its command line.

    Raises:
        IndexNotFoundError: if there is no Lucene index in ``folder``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        k1: float = 0.9,
        b: float = 0.4,
        rm3: bool = False,
        timeout_s: float = 30.0,
        heap_mb: int = 512,
        java_options: Sequence[str] = (),
    ) -> None:
        self.folder, self.timeout_s, self.heap_mb, self.java_options = Path(folder), timeout_s, heap_mb, java_options
        self._settings = {"folder": str(self.folder.resolve()), "k1": k1, "b": b, "rm3": rm3}
        if not any(self.folder.glob("segments_*")):
            found = "no segments_* file in it" if self.folder.is_dir() else "no such folder"
            raise IndexNotFoundError(f"Lucene index {self.folder}: {found}; build the index with its BM25 part")
        self._lock = threading.Lock()
        self._process: Process | None = None
        self._closed = False
        self._started = self._starting = False
        self._pause_s, self._not_before, self._why_not = FIRST_PAUSE_S, 0.0, ""
        self._new: Process | None = None
        self._lately: deque[dict[str, Any]] = deque(maxlen=_WARM_UP)
        self._passing, self._ahead, self._patient = threading.Lock(), 0, False

    def search(
        self, queries: Sequence[str], k: int, *, threads: int = 1, wait: bool = True, timeout_s: float | None = None
    ) -> list[LuceneResult]:
        """The ``k`` best documents for each query.

        A query is a bag of words: no character has a meaning of its own. Scores are Anserini's: rounded
        to four decimals, equal ones then told apart by small steps in doc_id order.

        Args:
            queries: any text; blank ones, and those of stop words only, find nothing.
            k: hits wanted, at least 1; more than there are documents is fine.
            threads: queries searched at the same time.
            wait: for a process that must be started anew, which takes seconds; False has it started meanwhile, after
                failed starts ever later.
            timeout_s: after which an answer is given up, as a process that hangs is; None means the index's own.

        Raises:
            InputError: if ``k`` or ``threads`` is less than 1.
            StartingError: if the process is being started anew, and ``wait`` is False.
            IndexCorruptError: if Lucene cannot open the index.
            ConfigError: if RM3 is wanted of an index built without term vectors.
            BackendError: if Java fails twice in a row (once, where ``wait`` is False), or after ``close()``.
        """
        if k < 1:
            raise InputError(f"k is {k}; wanted at least 1")
        _check_threads(threads)
        results: list[LuceneResult] = []
        for first in range(0, len(queries), _QUERIES_PER_REQUEST):
            batch = [_clean(query) for query in queries[first : first + _QUERIES_PER_REQUEST]]
            arguments = {"queries": batch, "k": min(k, _LARGEST_K), "threads": threads}
            found = self._ask("search", arguments, wait, self.timeout_s if timeout_s is None else timeout_s)
            self._lately.append(arguments | {"queries": batch[:1]})
            results += [LuceneResult(in_run_order(map(tuple, hits)), cut) for hits, cut in found]
        return results

    @contextmanager
    def giving_way(self) -> Iterator[None]:
        """While in here, a process that is started for searches that do not ``wait`` stands still, and leaves the
        processor to other work: in the first ``PATIENCE_S`` of its life, and no longer.

        A low priority would do the same where there is one; it could not be taken back when Java is needed.
        """
        with self._passing:
            self._ahead += 1
            self._pause()
        try:
            yield
        finally:
            with self._passing:
                self._ahead -= 1
                if not self._ahead and self._new is not None:
                    self._new.resume()

    def _pause(self) -> None:
        """Have what is started meanwhile stand still, if a search is ahead and it has the patience."""
        if self._new is not None and self._starting and self._ahead and self._patient:
            self._new.pause()

    def _insist(self) -> None:
        """Patience is at an end."""
        with self._passing:
            self._patient = False
            if self._new is not None:
                self._new.resume()

    def close(self) -> None:
        """End the Java process, asked or not; searching is over."""
        self._closed = True
        for process in (self._process, self._new):
            if process is not None:
                process.kill()
        with self._lock:
            self._drop()

    def _ask(self, command: str, arguments: dict[str, Any], wait: bool, timeout_s: float) -> Any:
        """Ask the process, and a second one where the first is gone."""
        if not wait and not self._alive and (self._starting or (self._started and self._new is not None)):
            raise self._not_there()
        if not self._lock.acquire(timeout=-1 if wait else timeout_s):
            raise BackendError(f"Lucene index {self.folder}: its process was busy for {timeout_s:.1f} s")
        try:
            first_failure = ""
            while True:
                if self._closed:
                    raise BackendError(f"Lucene index {self.folder} was closed; open it again to search")
                if self._started and not wait and not self._alive:
                    self._start_meanwhile()
                    if first_failure:
                        raise BackendError(f"Lucene index {self.folder}: its process failed ({first_failure})")
                    raise self._not_there()
                try:
                    return self._running().ask(command, arguments, timeout_s)
                except RefusedError as exc:
                    raise BackendError(f"Lucene index {self.folder}: search failed ({exc})") from exc
                except GoneError as exc:
                    self._drop()
                    if first_failure and not self._closed:
                        raise BackendError(
                            f"Lucene index {self.folder}: its process failed twice ({first_failure}; {exc}); "
                            "see whether Java runs with 'elastic-ir doctor', or give it more memory or time"
                        ) from exc
                    first_failure = str(exc)
                    if not self._closed:
                        logger.warning("Lucene process of %s failed (%s); starting another", self.folder, exc)
        finally:
            self._lock.release()

    @property
    def _alive(self) -> bool:
        process = self._process
        return process is not None and process.alive

    def _start_meanwhile(self) -> None:
        if (left := self._not_before - time.monotonic()) > 0:
            why = f"its process could not be started ({self._why_not}); next try in {left:.1f} s"
            raise BackendError(f"Lucene index {self.folder}: {why}")
        self._starting = True
        threading.Thread(target=self._start, name="elastic-ir-lucene", daemon=True).start()

    def _start(self) -> None:
        with self._lock:
            try:
                if not self._closed:
                    self._running()
                self._pause_s = FIRST_PAUSE_S
            except Exception as exc:
                self._why_not, self._not_before = str(exc), time.monotonic() + self._pause_s
                self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)
                if not self._closed:
                    logger.warning("Lucene process of %s could not be started: %s", self.folder, exc)
            finally:
                self._starting = False

    def _not_there(self) -> StartingError:
        return StartingError(f"Lucene index {self.folder}: its process is being started anew")

    def _running(self) -> Process:
        """The process, started and with the index open."""
        if self._process is None or not self._alive:
            self._drop()
            process = Process(self.heap_mb, [*self._java_options()])
            patience = threading.Timer(PATIENCE_S, self._insist)
            patience.daemon = True
            patience.start()
            with self._passing:
                self._new, self._patient = process, True
                self._pause()
            try:
                self._process = self._warm(self._opened(process))
            finally:
                patience.cancel()
                with self._passing:
                    self._new = None
                    process.resume()  # its last answer may have been on the way when it was told to stand still
            self._started = True
        return self._process

    def _java_options(self) -> Iterator[str]:
        """Java's quick compiler only, for the other one takes the processor when it is needed; and the classes kept."""
        yield QUICK_COMPILER
        yield from self.java_options
        if not self.java_options and (archive := class_archive()).is_file():
            yield f"-XX:SharedArchiveFile={archive}"
            yield from ("-XX:+IgnoreUnrecognizedVMOptions", "-XX:+VerifySharedSpaces")  # a damaged one is not used

    def _opened(self, process: Process) -> Process:
        """``process`` with the index open."""
        try:
            has_term_vectors = process.ask("open", self._settings, START_TIMEOUT_S)
        except RefusedError as exc:
            process.close()
            raise IndexCorruptError(
                f"Lucene index {self.folder} cannot be opened ({exc}); restore it from a copy or build it again"
            ) from exc
        if self._settings["rm3"] and not has_term_vectors:
            process.close()
            raise ConfigError(
                f"Lucene index {self.folder} has no term vectors, which RM3 needs; "
                "build it with term_vectors=True or search without RM3"
            )
        return process

    def _warm(self, process: Process) -> Process:
        """``process`` after the latest searches: Java's first ones take a hundred times as long as the others."""
        lately = list(self._lately)
        self._lately.clear()  # what ends a process must not end the next one too
        for arguments in lately or [_FIRST_SEARCH]:
            with suppress(RefusedError):
                process.ask("search", arguments, self.timeout_s)
        self._lately.extend(lately)
        return process

    def _drop(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


def _check_threads(threads: int) -> None:
    if threads < 1:
        raise InputError(f"threads is {threads}; wanted at least 1")


def _clean(text: str) -> str:
    """``text`` with lone surrogates, which are no characters, replaced."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _batches(documents: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    characters = 0
    for doc_id, contents in documents:
        batch.append((doc_id, _clean(contents)))
        characters += len(contents)
        if len(batch) == _DOCUMENTS_PER_REQUEST or characters >= _CHARACTERS_PER_REQUEST:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
