"""The Lucene process: Anserini behind a socket.

``elastic_ir.index.lucene`` runs this file as a program of its own, so that a crash, a hang or the heap
of Java never touches the process that asks. Requests are ``[command, arguments]`` in JSON, answered one by
one; lists cross from Java as JSON, since pyjnius wraps them slowly.
Anserini may log to stdout as it likes: the socket is another file.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import math
import os
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from array import array
from binascii import a2b_base64
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

MAX_TERMS = 1024
"""Distinct terms that Lucene takes in one query."""

KEPT_TERMS = 1000
"""Distinct terms left of a query that has more than ``MAX_TERMS``."""

_LOOKED_UP = 16 * MAX_TERMS  # distinct terms whose frequency is looked up: 30 microseconds each
_HEADER = struct.Struct(">I")
_FIELD = "contents"
_WORKERS = 64  # at most; threads start when first needed


def send(connection: socket.socket, message: bytes) -> None:
    """Write ``message`` with its length in front."""
    connection.sendall(_HEADER.pack(len(message)) + message)


def receive(connection: socket.socket, deadline: float | None = None) -> bytes:
    """Read one message.

    Args:
        connection: where from.
        deadline: ``time.monotonic()`` seconds; None waits for ever.

    Raises:
        EOFError: if the other side is gone.
        TimeoutError: if the deadline passes.
    """
    (size,) = _HEADER.unpack(_exactly(connection, _HEADER.size, deadline))
    return _exactly(connection, size, deadline)


def _exactly(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        if deadline is not None:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


class Searcher:
    """One index under BM25, searched as Anserini's ``SimpleSearcher`` does, with the same scores.

    That class is asked itself for RM3 only. Else its parts are: it takes 20 microseconds of pyjnius for each
    hit, and reads each hit's stored document for an id that came with the sort key.

    Threads call methods of the objects made here, never of an object of their own: pyjnius keeps the receiver
    of a call in the method, which all objects of a class share.
    """

    def __init__(self, folder: str, k1: float, b: float, rm3: bool) -> None:
        from jnius import autoclass

        self._reader = autoclass("io.anserini.index.IndexReaderUtils").getReader(folder)
        self._searcher = autoclass("org.apache.lucene.search.IndexSearcher")(self._reader)
        self._searcher.setSimilarity(autoclass("org.apache.lucene.search.similarities.BM25Similarity")(k1, b))
        by = autoclass("org.apache.lucene.search.SortField")
        kind = autoclass("org.apache.lucene.search.SortField$Type").STRING_VAL
        self._order = autoclass("org.apache.lucene.search.Sort")(by.FIELD_SCORE, by("id", kind))
        self._best = autoclass("org.apache.lucene.search.TopFieldCollector").createSharedManager
        self._analyzer = autoclass("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
        self._analyze = autoclass("io.anserini.analysis.AnalyzerUtils").analyze
        self._split = autoclass("org.apache.lucene.analysis.core.WhitespaceAnalyzer")()
        self._build = autoclass("io.anserini.search.query.BagOfWordsQueryGenerator")().buildQuery
        self._term = autoclass("org.apache.lucene.index.Term")
        self._json = autoclass("com.fasterxml.jackson.databind.ObjectMapper")()
        self._rm3 = self._with_rm3(folder, k1, b) if rm3 else None
        self._pool = ThreadPoolExecutor(_WORKERS)

    def _with_rm3(self, folder: str, k1: float, b: float) -> Any:
        from jnius import autoclass

        searcher = autoclass("io.anserini.search.SimpleSearcher")(folder, self._split)
        searcher.set_bm25(k1, b)
        searcher.set_rm3(None, 10, 10, 0.5, False, True)
        return searcher

    @property
    def has_term_vectors(self) -> bool:
        """What RM3 needs; True for an empty index."""
        from jnius import autoclass

        field = autoclass("io.anserini.index.IndexReaderUtils").getFieldInfo(self._reader).get(_FIELD)
        return field is None or bool(field.hasVectors())

    def search(self, queries: Sequence[str], k: int, threads: int) -> list[tuple[list[tuple[str, float]], bool]]:
        """For each query its (doc_id, score), best first, and whether it was cut."""
        threads = min(threads, len(queries))
        if threads <= 1:
            return [self._found(query, k) for query in queries]
        slices = [queries[first::threads] for first in range(threads)]
        found = list(self._pool.map(lambda part: [self._found(query, k) for query in part], slices))
        return [found[number % threads][number // threads] for number in range(len(queries))]

    def _found(self, query: str, k: int) -> tuple[list[tuple[str, float]], bool]:
        terms = json.loads(self._json.writeValueAsString(self._analyze(self._analyzer, query)))
        counts = Counter(terms)
        cut = len(counts) > MAX_TERMS
        # Joined by spaces and split there again: terms are not analyzed twice.
        return self._hits(" ".join(self._rarest(counts) if cut else terms), k), cut

    def _hits(self, terms: str, k: int) -> list[tuple[str, float]]:
        if self._rm3 is not None:
            return [(hit.docid, hit.score) for hit in self._rm3.search(terms, k)]
        k = min(k, max(1, self._reader.maxDoc()))
        # Hits are not counted beyond k: what cannot be among the best is passed over, and the order stays exact.
        top = self._searcher.search(self._build(_FIELD, self._split, terms), self._best(self._order, k, None, k))
        hits = json.loads(self._json.writeValueAsString(top))["scoreDocs"]
        scores = told_apart(hit["fields"][0] for hit in hits)
        return [(_text(**hit["fields"][1]), score) for hit, score in zip(hits, scores, strict=True)]

    def _rarest(self, counts: Counter[str]) -> list[str]:
        """The rarest of the terms that the index has, each as often as in the query."""
        frequency = {term: self._reader.docFreq(self._term(_FIELD, term)) for term in islice(counts, _LOOKED_UP)}
        known = sorted((documents, term) for term, documents in frequency.items() if documents)
        return [term for _, term in known[:KEPT_TERMS] for _ in range(counts[term])]


def told_apart(scores: Iterable[float]) -> list[float]:
    """Round to four decimals, then lower the n-th of equal scores by n millionths, in float32.

    Where float32 has no such steps, from 16 on, the next lower number is taken.

    Source: Anserini's ``ScoreTiesAdjusterReranker``, so that trec_eval sees the order of the hits.
    """
    rounded = array("f", (math.floor(score * 1e4 + 0.5) / 1e4 for score in array("f", scores)))
    ties = 0
    for rank in range(1, len(rounded)):
        gap = rounded[rank - 1] - rounded[rank]
        apart = gap > 2e-4 or _float32(gap) > _float32(1e-4)
        ties = 0 if apart else ties + 1
        if ties:
            lowered = _float32(rounded[rank] - _float32(_float32(1e-6) * ties))
            rounded[rank] = min(lowered, _next_lower(rounded[rank - 1]))
    return rounded.tolist()


def _float32(number: float) -> float:
    return ctypes.c_float(number).value


def _next_lower(number: float) -> float:
    """The largest float32 below ``number``, which is one above 0."""
    bits = ctypes.c_int32.from_buffer(ctypes.c_float(number))
    return ctypes.c_float.from_buffer(ctypes.c_int32(bits.value - 1)).value if number > 0 else number


def _text(bytes: str, offset: int, length: int, **_: Any) -> str:
    """The text of a Lucene ``BytesRef``."""
    return a2b_base64(bytes)[offset : offset + length].decode()


class Writer:
    """Writes an index as Anserini does, but lets no error of Lucene pass in silence."""

    def __init__(self, folder: str, threads: int, term_vectors: bool) -> None:
        from jnius import autoclass

        settings = autoclass("io.anserini.index.IndexCollection$Args")()
        settings.storeDocvectors = term_vectors
        self._generator = autoclass("io.anserini.index.generator.DefaultLuceneDocumentGenerator")(settings)
        self._document = autoclass("io.anserini.collection.JsonCollection$Document")
        analyzer = autoclass("io.anserini.analysis.DefaultEnglishAnalyzer").newDefaultInstance()
        config = autoclass("org.apache.lucene.index.IndexWriterConfig")(analyzer)
        config.setOpenMode(autoclass("org.apache.lucene.index.IndexWriterConfig$OpenMode").CREATE)
        config.setUseCompoundFile(False)
        config.setRAMBufferSizeMB(64.0)
        # Merging neighbours only, in this thread: the order of documents stays.
        config.setMergePolicy(autoclass("org.apache.lucene.index.LogDocMergePolicy")())
        config.setMergeScheduler(autoclass("org.apache.lucene.index.SerialMergeScheduler")())
        path = autoclass("java.io.File")(folder).toPath()
        directory = autoclass("org.apache.lucene.store.FSDirectory").open(path)
        self._writer = autoclass("org.apache.lucene.index.IndexWriter")(directory, config)
        self._threads, self._pool = threads, ThreadPoolExecutor(_WORKERS)

    def add(self, documents: Sequence[tuple[str, str]]) -> None:
        """Index (doc_id, contents) pairs; like Anserini, leave out those whose contents are blank."""
        slices = [documents[first :: self._threads] for first in range(self._threads)]
        for _ in self._pool.map(self._add, slices):
            pass

    def _add(self, documents: Sequence[tuple[str, str]]) -> None:
        from jnius import JavaException

        for doc_id, contents in documents:
            source = self._document.fromString(json.dumps({"id": doc_id, "contents": contents}))
            try:
                document = self._generator.createDocument(source)
            except JavaException as exc:
                if exc.classname != "io.anserini.index.generator.EmptyDocumentException":
                    raise
                continue
            self._writer.addDocument(document)

    def commit(self) -> None:
        """Merge into one segment and put it on disk."""
        self._writer.forceMerge(1)
        self._writer.close()


class Commands:
    """What the parent may ask for."""

    def __init__(self) -> None:
        self._searcher: Searcher | None = None
        self._writer: Writer | None = None

    def open(self, folder: str, k1: float, b: float, rm3: bool) -> bool:
        """Open an index; whether it has what RM3 needs."""
        self._searcher = Searcher(folder, k1, b, rm3)
        return self._searcher.has_term_vectors

    def search(self, queries: list[str], k: int, threads: int) -> list[tuple[list[tuple[str, float]], bool]]:
        if self._searcher is None:
            raise RuntimeError("search before open")
        return self._searcher.search(queries, k, threads)

    def create(self, folder: str, threads: int, term_vectors: bool) -> None:
        self._writer = Writer(folder, threads, term_vectors)

    def add(self, documents: list[tuple[str, str]]) -> None:
        if self._writer is None:
            raise RuntimeError("add before create")
        self._writer.add(documents)

    def commit(self) -> None:
        if self._writer is None:
            raise RuntimeError("commit before create")
        self._writer.commit()


def serve(connection: socket.socket, commands: Commands) -> None:
    """Answer requests until the other side is gone."""
    table: dict[str, Callable[..., Any]] = {
        "open": commands.open,
        "search": commands.search,
        "create": commands.create,
        "add": commands.add,
        "commit": commands.commit,
    }
    while True:
        command, arguments = json.loads(receive(connection))
        try:
            answer = {"answer": table[command](**arguments)}
        except Exception as exc:  # the parent is told, whatever it is
            answer = {"error": _one_line(exc)}
        send(connection, json.dumps(answer).encode("ascii"))


def _one_line(exc: Exception) -> str:
    """Class and message, without the stack that pyjnius puts into the text of a ``JavaException``."""
    name = str(getattr(exc, "classname", None) or type(exc).__name__).rpartition(".")[2]
    text = str(getattr(exc, "innermessage", None) or exc).strip().partition("\n")[0]
    return f"{name}: {text.removeprefix('JVM exception occurred: ')}"


def _start_java(jar: str, heap_mb: int, options: Sequence[str]) -> None:
    import jnius_config

    jnius_config.set_classpath(jar)
    jnius_config.set_options(
        f"-Xmx{heap_mb}m",
        "-Xrs",
        "-XX:+UseSerialGC",
        "-XX:ActiveProcessorCount=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:+DisplayVMOutputToStderr",
        "-XX:-UsePerfData",
        f"-XX:ErrorFile={tempfile.gettempdir()}/elastic_ir_java_%p.log",
        # Errors to stderr and nothing else; the full log4j would double the time to start.
        "-Dlog4j2.loggerContextFactory=org.apache.logging.log4j.simple.SimpleLoggerContextFactory",
        "-Dtests.seed=0",  # Lucene draws the ids of segments from it: equal builds give equal files (but *.si)
        *options,
    )
    import jnius  # noqa: F401 - importing starts Java


def _end_with(parent: int) -> None:
    """End this process when its parent is another: also while Java is busy or hangs.

    ``PR_SET_PDEATHSIG`` would not do: it fires when the *thread* that started this process ends.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def main(descriptor: str, jar: str, heap_mb: str, *options: str) -> None:
    """Serve on the inherited socket ``descriptor``; ``options`` are Java's."""
    faulthandler.disable()  # Java uses SIGSEGV itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _start_java(jar, int(heap_mb), options)
    try:
        with socket.socket(fileno=int(descriptor)) as connection:
            serve(connection, Commands())
    except (EOFError, OSError):
        os._exit(0)  # without waiting for Java's threads


if __name__ == "__main__":
    main(*sys.argv[1:])
