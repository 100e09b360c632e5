"""What clients send and get, checked and bounded."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from elastic_ir.answer import Hits
from elastic_ir.pipeline import MAX_QUERY_CHARACTERS

MAX_K = 100
MAX_TEXTS, MAX_TEXT_CHARACTERS = 1_000, 20_000
MAX_DEADLINE_MS = 60_000


def _integral(value: object) -> object:
    """JSON has one kind of number: 10.0 is 10."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, Field(ge=1, le=MAX_K), BeforeValidator(_integral)]
Whole = Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(_integral)]
_NOT_BLANK = "[^\\s\x1c-\x1f\x85\ufeff]"
"""What one kind of regular expression or another takes for white space is blank here."""
Question = Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY_CHARACTERS, pattern=_NOT_BLANK)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARACTERS)]
LevelName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SearchRequest(_Message):
    """A question.

    ``level`` forces an operating point, e.g. ``bm25`` or ``dense:w0.50-d6``; without it the load decides.
    """

    query: Question
    k: Count = 10
    deadline_ms: float | None = Field(default=None, gt=0, le=MAX_DEADLINE_MS, allow_inf_nan=False)
    level: LevelName | None = None
    text: bool = True


class FoundHit(_Message):
    """One document. ``retrieved`` is the retriever's score of a hit that was reranked."""

    doc_id: str
    score: float
    retrieved: float | None = None
    text: str | None = None


class DegradedAnswer(_Message):
    """Why an answer is less than what was asked for."""

    reasons: list[str]
    level: str
    requested_level: str
    candidates: int
    detail: str


class SearchAnswer(_Message):
    """Hits, best first, and how they came about; times in milliseconds."""

    hits: list[FoundHit]
    level: str
    degraded: DegradedAnswer | None
    stage_ms: dict[str, float]
    wait_ms: float
    latency_ms: float
    generation: int

    @staticmethod
    def plain(hits: Hits, *, text: bool, k: int, wait_ms: float, latency_ms: float) -> dict[str, Any]:
        """The answer for the first ``k`` of ``hits`` as plain data: models cost too much here."""
        return {
            "hits": [
                {"doc_id": h.doc_id, "score": h.score, "retrieved": h.retrieved, "text": h.text if text else None}
                for h in hits[:k]
            ],
            "level": str(hits.level),
            "degraded": hits.degraded and hits.degraded.plain(),
            "stage_ms": {name: round(ms, 3) for name, ms in hits.stage_ms.items()},
            "wait_ms": round(wait_ms, 3),
            "latency_ms": round(latency_ms, 3),
            "generation": hits.generation,
        }


class EmbeddingsRequest(_Message):
    """Texts to be made vectors, in the form of OpenAI; ``subnet`` such as ``w0.50-d6``.

    ``dimensions`` keeps the first ones. ``model`` and ``user``, which its clients send, change nothing.
    """

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]
    model: str | None = Field(default=None, max_length=200)
    input_type: str = Field(default="query", pattern="^(query|document)$")
    subnet: LevelName | None = None
    encoding_format: str = Field(default="float", pattern="^(float|base64)$")
    dimensions: Whole | None = None
    user: str | None = Field(default=None, max_length=200)


class Embedding(_Message):
    """A unit vector: numbers, or the base64 of its float32, lowest byte first."""

    object: str = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingsAnswer(_Message):
    """Vectors in the order of the texts; ``usage`` counts tokens, special ones and the prompt's included."""

    object: str = "list"
    model: str
    data: list[Embedding]
    usage: dict[str, int]


class DocumentText(_Message):
    """A document with its text; its other fields change nothing."""

    model_config = ConfigDict(extra="ignore", strict=True)

    text: Text


class RerankRequest(_Message):
    """Documents to be ordered for a question, in the form of Cohere; ``budget`` is a share of the full work.

    ``model``, ``priority``, ``rank_fields`` and ``max_chunks_per_doc``, which its clients may send, change nothing.
    """

    query: Question
    documents: Annotated[list[Text | DocumentText], Field(min_length=1, max_length=MAX_TEXTS)]
    top_n: Whole | None = None
    model: str | None = Field(default=None, max_length=200)
    budget: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    return_documents: bool | None = None
    max_tokens_per_doc: Whole | None = None
    max_chunks_per_doc: Whole | None = None
    rank_fields: Annotated[list[LevelName], Field(max_length=100)] | None = None
    priority: Annotated[int, Field(ge=0, le=999), BeforeValidator(_integral)] | None = None


class RerankResult(_Message):
    """Place of a document in the request, and its relevance from 0 to 1, the sigmoid of the ranker's final score."""

    index: int
    relevance_score: float
    document: DocumentText | None = None


class RerankAnswer(_Message):
    """Documents, best first."""

    results: list[RerankResult]


class ServedLevel(_Message):
    """A level of the ladder; ``quality`` is null where nobody measured it."""

    level: str
    quality: float | None
    p50_ms: float
    p95_ms: float


class Levels(_Message):
    """The ladder, dearest first, and what acts now."""

    slo_ms: float
    mode: str
    now: str
    levels: list[ServedLevel]


class Problem(_Message):
    """What went wrong: found, wanted, what to do."""

    error: str
    detail: Any = None


class Health(_Message):
    """Whether the service answers, and from which generation of its index."""

    status: str
    generation: int | None = None
    detail: str | None = None
