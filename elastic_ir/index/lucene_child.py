"""The Lucene process: Anserini behind a socket.

``elastic_ir.index.lucene`` runs this file as a program of its own, so that a crash, a hang or the heap
of Java never touches the process that asks. Requests are ``[command, arguments]`` in JSON, answered one by
one; strings cross to Java as ASCII JSON, since pyjnius mangles some characters and wraps arrays slowly.
Anserini may log to stdout as it likes: the socket is another file.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
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
    """Anserini's searcher over one index, for bag-of-words queries under BM25 (and RM3)."""

    def __init__(self, folder: str, k1: float, b: float, rm3: bool) -> None:
        from jnius import autoclass, find_javaclass

        self._settings = folder, k1, b, rm3
        self._searcher = self._open()
        self._reader = self._searcher.reader
        self._analyzer = self._searcher.get_analyzer()
        self._analyze = autoclass("io.anserini.analysis.AnalyzerUtils").analyze
        self._term = autoclass("org.apache.lucene.index.Term")
        self._list = find_javaclass("java.util.ArrayList")
        self._json = autoclass("com.fasterxml.jackson.databind.ObjectMapper")()
        self._json.configure(autoclass("com.fasterxml.jackson.core.JsonGenerator$Feature").ESCAPE_NON_ASCII, True)
        stored = self._json.configOverride(find_javaclass("org.apache.lucene.document.Document"))
        stored.setIsIgnoredType(autoclass("java.lang.Boolean")(True))
        self._pool = ThreadPoolExecutor(_WORKERS)

    def _open(self) -> Any:
        from jnius import autoclass

        folder, k1, b, rm3 = self._settings
        searcher = autoclass("io.anserini.search.SimpleSearcher")(folder)
        searcher.set_bm25(k1, b)
        if rm3:
            searcher.set_rm3(None, 10, 10, 0.5, False, True)
        return searcher

    @cached_property
    def _of_terms(self) -> Any:
        """A searcher that takes terms as they are, for queries that were analyzed to be cut."""
        from jnius import autoclass

        searcher = self._open()
        searcher.set_analyzer(autoclass("org.apache.lucene.analysis.core.WhitespaceAnalyzer")())
        return searcher

    @property
    def has_term_vectors(self) -> bool:
        """What RM3 needs; True for an empty index."""
        from jnius import autoclass

        field = autoclass("io.anserini.index.IndexReaderUtils").getFieldInfo(self._reader).get(_FIELD)
        return field is None or bool(field.hasVectors())

    def search(self, queries: Sequence[str], k: int, threads: int) -> str:
        """JSON of ``{"found": [{number of the query: [{docid, score}]}], "cut": numbers of shortened queries}``."""
        numbered = {str(number): query for number, query in enumerate(queries)}
        # Fewer characters than terms allowed cannot be too many terms.
        long = {number: self._terms(query) for number, query in numbered.items() if len(query) > MAX_TERMS}
        cut = {number: self._cut(terms) for number, terms in long.items() if len(terms) > MAX_TERMS}
        whole = [(number, query) for number, query in numbered.items() if number not in cut]
        slices = [part for first in range(threads) if (part := whole[first::threads])]
        found = list(self._pool.map(lambda part: self._found(self._searcher, part, k), slices))
        found += [self._found(self._of_terms, [shortened], k) for shortened in cut.items()]
        return f'{{"found": [{",".join(found)}], "cut": {json.dumps([int(number) for number in cut])}}}'

    def _found(self, searcher: Any, numbered: Sequence[tuple[str, str]], k: int) -> str:
        numbers, queries = zip(*numbered, strict=True)
        # Java has one processor here, so this is one thread; more come from the pool.
        hits = searcher.batch_search(self._strings(queries), self._strings(numbers), k, 1)
        return str(self._json.writeValueAsString(hits))

    def _strings(self, strings: Sequence[str]) -> Any:
        return self._json.readValue(json.dumps(strings), self._list)

    def _terms(self, query: str) -> Counter[str]:
        return Counter(self._analyze(self._analyzer, query).toArray())

    def _cut(self, terms: Counter[str]) -> str:
        """The rarest of the terms that the index has, each as often as in the query."""
        frequency = {term: self._reader.docFreq(self._term(_FIELD, term)) for term in islice(terms, _LOOKED_UP)}
        known = sorted((count, term) for term, count in frequency.items() if count)
        return " ".join(term for _, term in known[:KEPT_TERMS] for _ in range(terms[term]))


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
    """What the parent may ask for; each answers with JSON."""

    def __init__(self) -> None:
        self._searcher: Searcher | None = None
        self._writer: Writer | None = None

    def open(self, folder: str, k1: float, b: float, rm3: bool) -> str:
        self._searcher = Searcher(folder, k1, b, rm3)
        return json.dumps({"term_vectors": self._searcher.has_term_vectors})

    def search(self, queries: list[str], k: int, threads: int) -> str:
        if self._searcher is None:
            raise RuntimeError("search before open")
        return self._searcher.search(queries, k, threads)

    def create(self, folder: str, threads: int, term_vectors: bool) -> str:
        self._writer = Writer(folder, threads, term_vectors)
        return "{}"

    def add(self, documents: list[tuple[str, str]]) -> str:
        if self._writer is None:
            raise RuntimeError("add before create")
        self._writer.add(documents)
        return "{}"

    def commit(self) -> str:
        if self._writer is None:
            raise RuntimeError("commit before create")
        self._writer.commit()
        return "{}"


def serve(connection: socket.socket, commands: Commands) -> None:
    """Answer requests until the other side is gone."""
    table: dict[str, Callable[..., str]] = {
        "open": commands.open,
        "search": commands.search,
        "create": commands.create,
        "add": commands.add,
        "commit": commands.commit,
    }
    while True:
        command, arguments = json.loads(receive(connection))
        try:
            answer = table[command](**arguments)
        except Exception as exc:  # the parent is told, whatever it is
            answer = json.dumps({"error": _one_line(exc)})
        send(connection, answer.encode("ascii"))


def _one_line(exc: Exception) -> str:
    """Class and message, without the stack that pyjnius puts into the text of a ``JavaException``."""
    name = str(getattr(exc, "classname", None) or type(exc).__name__).rpartition(".")[2]
    text = str(getattr(exc, "innermessage", None) or exc).strip().partition("\n")[0]
    return f"{name}: {text.removeprefix('JVM exception occurred: ')}"


def _start_java(jar: str, heap_mb: int) -> None:
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
        "-Dtests.seed=0",  # Lucene draws the ids of segments from it: equal builds give equal files (but *.si)
    )
    import jnius  # noqa: F401 - importing starts Java


def _end_with(parent: int) -> None:
    """End this process when its parent is another: also while Java is busy or hangs.

    ``PR_SET_PDEATHSIG`` would not do: it fires when the *thread* that started this process ends.
    """
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def main(descriptor: str, jar: str, heap_mb: str) -> None:
    """Serve on the inherited socket ``descriptor``."""
    faulthandler.disable()  # Java uses SIGSEGV itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _start_java(jar, int(heap_mb))
    try:
        with socket.socket(fileno=int(descriptor)) as connection:
            serve(connection, Commands())
    except (EOFError, OSError):
        os._exit(0)  # without waiting for Java's threads


if __name__ == "__main__":
    main(*sys.argv[1:])
