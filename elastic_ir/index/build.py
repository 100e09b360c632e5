"""``build_index``: documents in, one new generation out, or nothing changed."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any

from elastic_ir import durable
from elastic_ir.allocator import give_back
from elastic_ir.errors import ConfigError, IndexCorruptError, IndexNotFoundError, InputError
from elastic_ir.index.current import Current, read_current, write_current
from elastic_ir.index.encoding import DocumentEncoder, VectorChunks
from elastic_ir.index.factory import check_training, load_faiss, make_index, write_faiss
from elastic_ir.index.generation import Generation, open_index, pin
from elastic_ir.index.manifest import DOCUMENTS, FAISS, LUCENE, MANIFEST, Manifest, record_files
from elastic_ir.index.reuse import earlier_vectors
from elastic_ir.index.stores import DocumentStore, document_writer, read_rows, token_writer
from elastic_ir.progress import track
from elastic_ir.records import Document
from elastic_ir.version import __version__

logger = logging.getLogger(__name__)

Tokenize = Callable[[list[str]], list[list[int]]]
"""Texts to token ids, without special tokens."""

ENCODING = "encoding.tmp"
MAX_ID_CHARACTERS = 1024
MAX_CHARACTERS = 20_000_000
"""Of a document's contents: what Java's JSON reader takes as one string."""
_BAD_IN_ID = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_FINISHED = re.compile(r"gen-\d{6,}")
_UNFINISHED = re.compile(r"gen-\d{6,}\.tmp")


def build_index(
    documents: Iterable[Document],
    path: Path,
    *,
    encoder: DocumentEncoder | None = None,
    tokenize: Tokenize | None = None,
    tokenizer_fingerprint: str = "",
    factory: str = "Flat",
    lucene: bool = True,
    source: str = "",
    chunk_size: int = 1024,
    total: int | None = None,
    progress: bool | None = None,
    seed: int = 0,
    earlier: Sequence[Path] = (),
) -> Generation:
    """Build the next generation of the index at ``path`` and make it the current one.

    A build that was killed continues when it is called again: chunks encoded by the same encoder from the
    same contents are taken over, and the result has the same bytes. A build that fails leaves the current
    generation as it is. The generation before this one is kept; older ones are removed unless being read.

    Of contents that are in the current generation the vectors are taken over, where the same encoder made them in the
    same number format and the factory keeps them whole: only what is new is encoded. In another batch a vector may
    have come out otherwise by 1e-5 in fp32; in a new folder all is encoded.

    Args:
        documents: read once, in order.
        path: folder of the index; made when missing.
        encoder: makes the vectors; None builds none.
        tokenize: makes the token ids of the contents; None stores none.
        tokenizer_fingerprint: what makes the token ids, to be stored with them.
        factory: FAISS factory string; the metric is the inner product.
        lucene: build the Lucene index too.
        source: name of the dataset, for the manifest.
        chunk_size: documents encoded, and saved, at a time.
        total: how many documents there will be; None asks ``len(documents)`` where there is one.
        progress: show a bar on stderr; None on a terminal only.
        seed: of FAISS training.
        earlier: other indexes, of which the first that can gives its vectors in the same way, where there is no
            current generation.

    Returns:
        The new generation, open.

    Raises:
        ConfigError: if FAISS knows no such factory or there are too few documents to train it.
        InputError: if an id is empty, repeated or unprintable, a vector is not finite and of unit length, or
            there is nothing to index.
        IndexLockedError: at once, if another process is writing this index.
    """
    path = Path(path)
    if chunk_size < 1:
        raise ConfigError(f"chunk_size is {chunk_size}; wanted at least 1")
    if encoder is not None:
        _check_factory(factory, encoder.card.dimension, len(documents) if isinstance(documents, Sized) else total)
    with durable.writer_lock(path):
        number = 1 + max((int(folder.name[4:]) for folder in _folders(path, _FINISHED)), default=0)
        for leftover in _folders(path, _UNFINISHED):
            shutil.rmtree(leftover)
        folder = path / f"gen-{number:06d}.tmp"
        folder.mkdir()
        try:
            chunks = None if encoder is None else VectorChunks(path / ENCODING, encoder, chunk_size)
            with closing(track(documents, "indexing", total, None if progress is None else not progress)) as counted:
                chunked = _chunked(_checked(counted), chunk_size)
                count = _write_stores(folder, chunked, chunks, tokenize, [path, *earlier])
            give_back()  # FAISS and Java need it now
            if chunks is not None:
                write_faiss(folder / FAISS, factory, chunks, seed)
            if lucene:
                _write_lucene(folder, count)
            manifest = _write_manifest(
                folder,
                source=source,
                documents=count,
                encoder=None if encoder is None else encoder.card,
                number_format=None if encoder is None else encoder.number_format,
                factory=None if encoder is None else factory,
                tokenizer_fingerprint=None if tokenize is None else tokenizer_fingerprint,
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _commit(path, folder, manifest)
        if chunks is not None:
            shutil.rmtree(path / ENCODING, ignore_errors=True)
        return open_index(path, verify=False)


def _check_factory(factory: str, dimension: int, count: int | None) -> None:
    """Find out before hours of encoding that the index cannot be made."""
    index = make_index(factory, dimension)
    if count is not None:
        check_training(index, factory, count)


def _write_stores(
    folder: Path,
    documents: Iterable[list[Document]],
    chunks: VectorChunks | None,
    tokenize: Tokenize | None,
    earlier: Sequence[Path],
) -> int:
    """Write documents, ids, token ids and encoded chunks as the documents come by; returns how many there were.

    Vectors may be those of one of the ``earlier`` indexes.
    """
    count, any_contents = 0, False
    with ExitStack() as stack:
        known = None if chunks is None else earlier_vectors(earlier, chunks.encoder)
        if known is not None:
            stack.callback(known.close)
        add_documents = stack.enter_context(document_writer(folder))
        add_tokens = stack.enter_context(token_writer(folder)) if tokenize is not None else None
        for chunk in documents:
            contents = [document.contents for document in chunk]
            add_documents(chunk)
            if tokenize is not None and add_tokens is not None:
                add_tokens(_tokens(tokenize, contents, first_row=count + 1))
            if chunks is not None:
                chunks.add(chunk, known)
            count += len(chunk)
            any_contents = any_contents or any(contents)
        if not any_contents:
            found = f"all {count} documents are empty" if count else "there are no documents"
            raise InputError(f"index {folder.parent}: {found}; wanted at least one with a title or text")
    return count


def _write_lucene(folder: Path, count: int) -> None:
    from elastic_ir.index.classes import archive_classes
    from elastic_ir.index.lucene import build_lucene

    with closing(DocumentStore(folder, read_rows(folder, count))) as documents:
        build_lucene(((document.doc_id, document.contents) for document in documents), folder / LUCENE)
    for path in [folder / LUCENE, *(folder / LUCENE).rglob("*")]:
        durable.sync(path)
    archive_classes(folder / LUCENE)


def _write_manifest(folder: Path, **settings: Any) -> bytes:
    """Write down what is in ``folder``, last of all its files."""
    files = record_files(folder)
    manifest = Manifest(
        elastic_ir=__version__,
        faiss=str(load_faiss().__version__) if FAISS in files else None,
        corpus_sha256=files[DOCUMENTS].sha256,
        files=files,
        **settings,
    ).dump()
    with durable.NewFile(folder / MANIFEST) as file:
        file.write(manifest)
    durable.sync(folder)
    return manifest


def _commit(path: Path, folder: Path, manifest: bytes) -> None:
    """Make the finished ``folder`` the current generation, then remove what nobody needs."""
    try:
        previous = read_current(path).name
    except IndexNotFoundError:
        previous = ""
    except IndexCorruptError:
        previous = None  # it cannot be told which one was good, so none is removed
    target = folder.with_suffix("")
    durable.rename(folder, target)
    write_current(path, Current(target.name, hashlib.sha256(manifest).hexdigest()))
    for old in _folders(path, _FINISHED):
        if previous is not None and old.name not in (target.name, previous):
            _remove(old)


def _remove(folder: Path) -> None:
    """Remove an old generation, unless it is being read: then a later build will."""
    try:
        handle = pin(folder, exclusive=True)
    except FileNotFoundError:
        handle = None  # an earlier removal was interrupted
    except OSError as exc:
        logger.info("%s is kept, it is being read: %s", folder, exc)
        return
    shutil.rmtree(folder, ignore_errors=True)
    if handle is not None:
        os.close(handle)


def _checked(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield ``documents``, refusing an id that could not stand in a run file or would be lost."""
    rows: dict[str, int] = {}
    for row, document in enumerate(documents, start=1):
        doc_id = document.doc_id
        for name, found in document._asdict().items():
            if not isinstance(found, str):
                raise InputError(f"row {row}: {name} is {found!r:.60}; wanted a text")
        shown = f"row {row}: doc_id {doc_id[:60]!r}"
        if not doc_id:
            raise InputError(f"{shown} is empty; every document needs an id")
        if len(doc_id) > MAX_ID_CHARACTERS:
            raise InputError(f"{shown}... has {len(doc_id)} characters; wanted at most {MAX_ID_CHARACTERS}")
        bad = _BAD_IN_ID.search(doc_id)
        if bad is not None:
            raise InputError(f"{shown} contains {bad[0]!r}; an id has no white space and no control characters")
        if rows.setdefault(doc_id, row) != row:
            raise InputError(f"{shown} is already that of row {rows[doc_id]}; ids must differ")
        if len(document.contents) > MAX_CHARACTERS:
            raise InputError(
                f"{shown} has {len(document.contents):,} characters; wanted at most {MAX_CHARACTERS:,}, so cut it up"
            )
        yield document


def _tokens(tokenize: Tokenize, contents: list[str], first_row: int) -> list[list[int]]:
    tokens = tokenize(contents)
    if len(tokens) != len(contents):
        raise InputError(
            f"the tokenizer gave {len(tokens)} lists for the {len(contents)} documents "
            f"from row {first_row}; wanted as many"
        )
    return tokens


def _chunked(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    iterator = iter(documents)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _folders(path: Path, name: re.Pattern[str]) -> list[Path]:
    return [folder for folder in path.iterdir() if name.fullmatch(folder.name)]
