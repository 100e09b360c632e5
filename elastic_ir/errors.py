"""Every error a user can meet: what was found, what was wanted, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class ElasticIRError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class InputError(ElasticIRError, ValueError):
    """An argument, query or file from the user that cannot be used."""

    exit_code = 2


class ConfigError(InputError):
    """A pipeline, recipe or index specification that does not hold."""


class SubnetError(InputError):
    """A width, depth or level that the model does not have."""


class DatasetError(InputError):
    """A dataset that is unknown, incomplete or has a bad line."""


class RunFileError(InputError):
    """A run file that cannot be read, or a result that cannot be written."""


class ModelError(ElasticIRError):
    """A checkpoint that is missing, damaged or of another family."""

    exit_code = 3


class IndexNotFoundError(ElasticIRError):
    """No finished generation at this path."""

    exit_code = 3


class IndexCorruptError(ElasticIRError):
    """A file of an index whose size or hash is not what its manifest says."""

    exit_code = 3


class IndexMismatchError(ElasticIRError):
    """An index built with another model, space or format than the one that would query it."""

    exit_code = 3


class IndexLockedError(ElasticIRError):
    """Another process is writing this index."""

    exit_code = 3


class BackendError(ElasticIRError):
    """A helper process or library (Java, Lucene, FAISS) that failed or could not start."""

    exit_code = 4


class StartingError(BackendError):
    """A helper process that is being started anew; the same request may be served some seconds later."""


class OverloadedError(ElasticIRError):
    """Too much is asked at once; the same request may be served ``retry_after_s`` seconds later."""

    exit_code = 4

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverShareError(OverloadedError):
    """One client has as much in the queue as the others leave to it."""


class ExpiredError(ElasticIRError):
    """The deadline passed before any work was done."""

    exit_code = 4
    retry_after_s = 1


class CrossCheckError(ElasticIRError):
    """A figure that is not trec_eval's."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'? known: a, b, c`` for the end of an error message."""
    choices = sorted(known)
    close = get_close_matches(name, choices, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} known: {', '.join(choices)}" if hint else f"; known: {', '.join(choices)}"
