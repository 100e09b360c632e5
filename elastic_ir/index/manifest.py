"""The manifest: what a generation is made of, and what every file of it must be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_serializer

from elastic_ir.durable import sha256
from elastic_ir.errors import IndexCorruptError, IndexMismatchError
from elastic_ir.records import EncoderCard

FORMAT = 1
MANIFEST = "manifest.json"
FAISS = "faiss.index"
DOC_IDS = "doc_ids.txt"
DOCUMENTS = "docs.jsonl"
DOCUMENT_OFFSETS = "docs.offsets.npy"
TOKENS = "tokens.npy"
TOKEN_OFFSETS = "tokens.offsets.npy"  # noqa: S105 - a file name
LUCENE = "lucene"
LUCENE_LOCK = f"{LUCENE}/write.lock"

RESTORE = "restore the index from a copy or build it again"


class FileRecord(BaseModel):
    """What one file must be."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    size_bytes: int
    sha256: str


class Manifest(BaseModel):
    """One generation of an index, as written in ``manifest.json``.

    Attributes:
        format: version of this layout.
        elastic_ir: version of the package that built it.
        faiss: version of FAISS that built it; None without vectors.
        source: name of the dataset; empty when not given.
        documents: how many there are.
        corpus_sha256: sha256 over the documents, in order.
        encoder: what made the vectors; None without vectors.
        number_format: in which it computed, e.g. ``fp32``; None without vectors, and where it was not written down.
        factory: FAISS factory string; None without vectors.
        tokenizer_fingerprint: what made the token ids; None without token ids.
        files: path inside the generation -> its size and hash; every file but this one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: int = FORMAT
    elastic_ir: str
    faiss: str | None
    source: str
    documents: int
    corpus_sha256: str
    encoder: EncoderCard | None
    number_format: str | None = None
    factory: str | None
    tokenizer_fingerprint: str | None
    files: dict[str, FileRecord]

    @field_serializer("encoder")
    def _named(self, encoder: EncoderCard | None) -> dict[str, Any] | None:
        return None if encoder is None else encoder._asdict()

    @property
    def has_lucene(self) -> bool:
        return any(name.startswith(f"{LUCENE}/") for name in self.files)

    @property
    def size_bytes(self) -> int:
        """All files but the manifest together."""
        return sum(record.size_bytes for record in self.files.values())

    def dump(self) -> bytes:
        """The file's content; equal manifests give equal bytes."""
        return f"{self.model_dump_json(indent=2)}\n".encode()


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Size and hash of every file in ``folder``, by name."""
    return {
        name: FileRecord(size_bytes=(folder / name).stat().st_size, sha256=sha256(folder / name))
        for name in _names(folder)
    }


def read_manifest(folder: Path, wanted_sha256: str) -> Manifest:
    """Read the manifest of the generation in ``folder``.

    Raises:
        IndexCorruptError: if it is missing, or its hash is not ``wanted_sha256``.
        IndexMismatchError: if it is of another format than this version reads.
    """
    name = f"index {folder.parent}: {folder.name}/{MANIFEST}"
    try:
        data = (folder / MANIFEST).read_bytes()
    except OSError as exc:
        raise IndexCorruptError(f"{name} cannot be read ({exc.strerror}); {RESTORE}") from exc
    found = hashlib.sha256(data).hexdigest()
    if found != wanted_sha256:
        raise IndexCorruptError(f"{name} has sha256 {found}, but CURRENT says {wanted_sha256}; {RESTORE}")
    try:
        written = json.loads(data)["format"]
        if written != FORMAT:
            raise IndexMismatchError(
                f"{name} is of format {written}, but this version reads format {FORMAT}; build the index again"
            )
        return Manifest.model_validate_json(data)
    except (ValidationError, ValueError, KeyError, TypeError) as exc:
        detail = exc.errors()[0] if isinstance(exc, ValidationError) else exc
        raise IndexCorruptError(f"{name} does not hold a manifest ({detail}); {RESTORE}") from exc


def damage(folder: Path, manifest: Manifest, *, hashes: bool) -> Iterator[str]:
    """Yield one line for each file that is not what ``manifest`` says; sizes first, then (if asked) hashes."""
    found = set(_names(folder))
    for name in sorted(found - manifest.files.keys()):
        yield f"index {folder.parent}: {folder.name}/{name} is not in the manifest; remove it"
    sound = []
    for name, wanted in manifest.files.items():
        where = f"index {folder.parent}: {folder.name}/{name}"
        if name not in found:
            yield f"{where} is missing (wanted {wanted.size_bytes} bytes, sha256 {wanted.sha256}); {RESTORE}"
            continue
        size_bytes = (folder / name).stat().st_size
        # A hash of a wrong-sized file is wrong too, but telling it helps whoever compares copies.
        if size_bytes != wanted.size_bytes:
            yield (
                f"{where} has {size_bytes} bytes and sha256 {sha256(folder / name)}, but the manifest says "
                f"{wanted.size_bytes} bytes and sha256 {wanted.sha256}; {RESTORE}"
            )
        else:
            sound.append(name)
    for name in sound if hashes else ():
        digest = sha256(folder / name)
        if digest != manifest.files[name].sha256:
            yield (
                f"index {folder.parent}: {folder.name}/{name} has sha256 {digest}, but the manifest says "
                f"{manifest.files[name].sha256}; {RESTORE}"
            )


def _names(folder: Path) -> list[str]:
    """Every file below ``folder`` that a manifest names, sorted; a link to nothing is none."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(set(paths) - {MANIFEST, LUCENE_LOCK})
