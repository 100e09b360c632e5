"""``PipelineConfig``: a pipeline as data, read from YAML, checked when built, unknown keys refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from elastic_ir.errors import ConfigError, ElasticIRError, nearest
from elastic_ir.level import Level, RerankLevel
from elastic_ir.subnet import Subnet

MAX_CANDIDATES = 10_000
_MAX_FILE_BYTES = 1 << 20


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _subnet(text: str) -> str:
    try:
        return str(Subnet.parse(text))
    except ElasticIRError as exc:
        raise ValueError(str(exc)) from exc


SubnetName = Annotated[str, AfterValidator(_subnet)]


class DenserConfig(_Settings):
    """The dense retriever.

    Attributes:
        model: bundled name, folder or hub id.
        subnet: sub-network for queries, e.g. ``w0.50-d6``; None means full.
        document_subnet: sub-network for documents, when an index is built; None means full.
        document_tokens: tokens kept of a document, when an index is built; None means the model's maximum.
        factory: FAISS factory string, when an index is built.
    """

    model: str = "elastic-denser-small"
    subnet: SubnetName | None = None
    document_subnet: SubnetName | None = None
    document_tokens: int | None = Field(default=None, ge=8)
    factory: str = "Flat"


class BM25Config(_Settings):
    """Lucene's BM25 (Anserini's defaults), optionally with RM3 query expansion."""

    k1: float = Field(default=0.9, ge=0)
    b: float = Field(default=0.4, ge=0, le=1)
    rm3: bool = False


class FusionConfig(_Settings):
    """How a hybrid joins dense and BM25: reciprocal ranks, or weighted min-max scores."""

    method: Literal["rrf", "weighted"] = "rrf"
    dense_weight: float = Field(default=0.5, ge=0, le=1)


class RerankerConfig(_Settings):
    """The reranker.

    Attributes:
        model: bundled name, folder or hub id.
        width: of every layer, in (0, 1].
        candidates: hits reranked.
        budget: share of the candidates' full candidate-layers spent when idle, in (0, 1].
    """

    model: str = "elastic-ranker-small"
    width: float = Field(default=1.0, gt=0, le=1)
    candidates: int = Field(default=50, ge=1, le=MAX_CANDIDATES)
    budget: float = Field(default=1.0, gt=0, le=1)


class PipelineConfig(_Settings):
    """A whole pipeline.

    Attributes:
        dataset: what to search: ``pydocs``, a BEIR folder or an ir_datasets id; its index is built on first use.
        split: of a BEIR folder.
        index: folder of a ready index; a missing or mismatched one is an error. None uses the cache.
        retriever: ``bm25``, ``dense`` or ``hybrid``.
        candidates: hits each retriever hands on.
        fallback: BM25 answers when the dense side fails.
        shrink_with_load: the depth budget shrinks with the searches in flight.
        precision: number format of matrix products; ``auto`` is bf16 where the processor has it.
    """

    dataset: str | None = None
    split: str = "test"
    index: str | None = None
    retriever: Literal["bm25", "dense", "hybrid"] = "dense"
    candidates: int = Field(default=100, ge=1, le=MAX_CANDIDATES)
    denser: DenserConfig = DenserConfig()
    bm25: BM25Config = BM25Config()
    fusion: FusionConfig = FusionConfig()
    reranker: RerankerConfig | None = None
    fallback: bool = True
    shrink_with_load: bool = True
    precision: Literal["fp32", "bf16", "auto"] = "auto"

    @model_validator(mode="after")
    def _enough_candidates(self) -> PipelineConfig:
        if self.reranker is not None and self.reranker.candidates > self.candidates:
            raise ValueError(
                f"reranker.candidates {self.reranker.candidates} is more than candidates {self.candidates}"
            )
        return self

    @property
    def wants_vectors(self) -> bool:
        """True when the index needs a dense side."""
        return self.retriever != "bm25"

    def level(self, full: Subnet | None) -> Level:
        """The level of an idle pipeline; ``full`` is the denser's largest subnet, None without one."""
        subnet = Subnet.parse(self.denser.subnet) if self.denser.subnet else full
        level = Level(self.retriever, subnet if self.wants_vectors else None)
        if self.reranker is None:
            return level
        return level._replace(rerank=RerankLevel(self.reranker.width, self.reranker.candidates, self.reranker.budget))


def read_config(source: str | Path | Mapping[str, Any] | PipelineConfig) -> PipelineConfig:
    """A checked configuration from a YAML file or a mapping.

    Raises:
        ConfigError: naming the file, the key, what was found and what was wanted.
    """
    if isinstance(source, PipelineConfig):
        return source
    name, raw = ("configuration", source) if isinstance(source, Mapping) else (str(source), _read_yaml(Path(source)))
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{name}: found {type(raw).__name__}; wanted keys and values, e.g. 'retriever: dense'")
    try:
        return PipelineConfig.model_validate(dict(raw))
    except ValidationError as exc:
        raise ConfigError(f"{name}: {_explain(exc)}") from exc


def _read_yaml(path: Path) -> Any:
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ConfigError(f"{path} is larger than 1 MiB; wanted a pipeline in YAML")
        return yaml.safe_load(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot read pipeline {path}: {exc.strerror}; give the path of a YAML file") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        reason = " ".join(str(exc).split())
        raise ConfigError(f"{path} is not YAML: {reason}") from exc


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "pipeline"
    if first["type"] == "extra_forbidden":
        return f"unknown key {where!r}{nearest(str(first['loc'][-1]), _keys_at(first['loc'][:-1]))}"
    return f"{where}: found {first['input']!r}; {first['msg'].removeprefix('Value error, ')}"


def _keys_at(where: tuple[int | str, ...]) -> list[str]:
    sections: dict[str, type[BaseModel]] = {
        "denser": DenserConfig,
        "bm25": BM25Config,
        "fusion": FusionConfig,
        "reranker": RerankerConfig,
    }
    model = sections[str(where[0])] if where else PipelineConfig
    return list(model.model_fields)
