"""A folder of text files, cut into passages along headings and paragraphs."""

from __future__ import annotations

import os
import re
import stat
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from contextlib import suppress
from logging import getLogger
from pathlib import Path
from urllib.parse import quote

from elastic_ir.datasets.base import Dataset, digest_of, key_of
from elastic_ir.datasets.blocks import KINDS
from elastic_ir.datasets.lines import MAX_ID_CHARS, SMALL_BYTES
from elastic_ir.datasets.passages import passages
from elastic_ir.errors import DatasetError
from elastic_ir.records import Document
from elastic_ir.version import __version__

MAX_FILE_BYTES = 32 * 2**20

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset=[\"']?([\w.:-]{1,40})", re.IGNORECASE)

_READ_AS = {
    "iso-8859-1": "cp1252", "latin1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252", "utf-16": "cp1252",
    "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc-kr": "cp949",
}  # fmt: skip
"""Declared character set -> what browsers take it for."""

_log = getLogger(__name__)


class TextFolder(Dataset):
    """Passages of the text files in a folder and the folders in it; no queries.

    A passage's id is its file's path from here, percent-encoded, and its place in it: ``guide/set%20up.md#3``. Its
    title is that of the file and the two nearest headings above it. Links, names that begin with a dot, files of
    other kinds, and (with a warning) those of more than ``MAX_FILE_BYTES`` are left out.

    Raises:
        DatasetError: if no file of a kind in ``KINDS`` is there.
    """

    def __init__(self, name: str) -> None:
        self.name, self._path, self._told = name, Path(name), set[str]()
        place = self._path.resolve()
        self.key = f"{key_of(place.name)}-{digest_of(place)[:8]}"
        if next(self._files(), None) is None:
            raise DatasetError(
                f"{name} has neither corpus.jsonl (the BEIR layout) nor a text in {', '.join(KINDS)}; wanted documents"
            )

    @property
    def count(self) -> int | None:
        """Passages of at most ``SMALL_BYTES`` of texts; None for more."""
        return sum(1 for _ in self.documents()) if self._bytes() <= SMALL_BYTES else None

    def documents(self) -> Iterator[Document]:
        """The passages by path, one file in memory at a time."""
        found = False
        for path, name in self._files():
            stem = os.fsencode(path.stem).decode("utf-8", "replace")
            title = re.sub(r"[_\W]+", " ", stem).strip() or stem
            blocks = KINDS[path.suffix.lower()](self._text(path))
            for number, passage in enumerate(passages(blocks, title), start=1):
                found = True
                yield Document(f"{name}#{number}", passage.text, passage.title)
        if not found:
            raise DatasetError(f"the texts in {self._path} are all blank; wanted a word at least")

    def fingerprint(self) -> str:
        """Digest of all texts; of their sizes and times of change when they have more than ``SMALL_BYTES``."""
        by_time = self._bytes() > SMALL_BYTES
        digests = [
            (name, (path.stat().st_size, path.stat().st_mtime_ns) if by_time else digest_of(self._text(path)))
            for path, name in self._files()
        ]
        return digest_of(__version__, *digests)

    def _bytes(self) -> int:
        return sum(path.stat().st_size for path, _ in self._files())

    def _files(self) -> Iterator[tuple[Path, str]]:
        """Path, and its name in ids, of every text, by name."""
        for folder, folders, names in os.walk(self._path, onerror=self._unreadable):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for path in (Path(folder, name) for name in sorted(names) if not name.startswith(".")):
                if path.suffix.lower() not in KINDS:
                    continue
                try:
                    status = path.lstat()
                except OSError as exc:
                    self._tell(f"{path} is left out: {exc.strerror}")
                    continue
                if not stat.S_ISREG(status.st_mode):
                    continue
                name = quote(os.fsencode(path.relative_to(self._path).as_posix()))
                if status.st_size > MAX_FILE_BYTES or len(name) > MAX_ID_CHARS - 10:
                    self._tell(f"{path} is left out: it has over {MAX_FILE_BYTES:,} bytes, or too long a name")
                    continue
                yield path, name

    def _text(self, path: Path) -> str:
        """What is in a file, with ``\\\\n`` as line end: in UTF-8, in what it says itself, or else in Windows-1252."""
        try:
            raw = path.read_bytes()
        except OSError as exc:
            raise DatasetError(f"{path} cannot be read ({exc.strerror}); wanted a readable file") from exc
        text = None
        declared = _CHARSET.search(raw[:4096])
        wide = raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
        named = declared[1].decode().lower() if declared else "utf-8"
        for coding in ["utf-16"] if wide else ["utf-8-sig", _READ_AS.get(named, named)]:
            with suppress(UnicodeError, LookupError):
                text = raw.decode(coding)
                break
        if text is None:
            self._tell(f"{path} is not UTF-8; it is read as Windows-1252")
            text = raw.decode("cp1252", "replace")
        return re.sub(r"\r\n?", "\n", text).replace("\x00", " ")

    def _unreadable(self, error: OSError) -> None:
        self._tell(f"{error.filename} is left out: {error.strerror}")

    def _tell(self, warning: str) -> None:
        """Once, however often the folder is read."""
        if warning not in self._told:
            self._told.add(warning)
            _log.warning(warning)
