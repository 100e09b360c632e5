"""Java's classes, read and checked once and kept as an archive: Lucene then starts in less than half the time."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

from elastic_ir.errors import BackendError
from elastic_ir.index.java import anserini_jar, class_archive, java_home
from elastic_ir.index.lucene import LuceneIndex

logger = logging.getLogger(__name__)

TIMEOUT_S = 120.0


def archive_classes(index: Path) -> None:
    """Keep the classes that a search of the Lucene ``index`` loads, unless they are kept already.

    Takes some seconds, once for each Java and jar. Where it fails Java starts as it did before.
    """
    archive = class_archive()
    if archive.is_file():
        return
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
            listed, made = Path(scratch) / "classes", Path(scratch) / "archive"
            with closing(LuceneIndex(index, java_options=[f"-XX:DumpLoadedClassList={listed}"])) as lucene:
                lucene.search(["what is kept"], 1)
            java, jar = str(java_home() / "bin" / "java"), str(anserini_jar())
            command = [java, "-Xshare:dump", "-XX:+UseSerialGC", "-cp", jar]
            options = [f"-XX:SharedClassListFile={listed}", f"-XX:SharedArchiveFile={made}"]
            subprocess.run([*command, *options], check=True, capture_output=True, timeout=TIMEOUT_S)
            with made.open("rb") as file:
                os.fsync(file.fileno())
            made.replace(archive)
    except (OSError, subprocess.SubprocessError, BackendError) as exc:
        logger.info("Java's classes could not be kept: %s", exc)
