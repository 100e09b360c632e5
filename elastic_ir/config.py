"""Settings as data: ``PipelineConfig`` and ``IndexSpec``, read from YAML, checked when built, unknown keys refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from elastic_ir.errors import ConfigError, nearest
from elastic_ir.level import FINEST_SHARE, Level, RerankLevel
from elastic_ir.subnet import Subnet

MAX_CANDIDATES = 10_000
_MAX_FILE_BYTES = 1 << 20
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_Model = TypeVar("_Model", bound=BaseModel)


SubnetName = Annotated[str, AfterValidator(lambda text: str(Subnet.parse(text)))]
"""A sub-network as it prints, e.g. ``w0.50-d6``."""


class DenserConfig(_Settings):
    """The dense retriever.

    Attributes:
        model: bundled name, folder or hub id.
        subnet: sub-network for queries, e.g. ``w0.50-d6``; None means full.
        document_subnet: sub-network for documents, when an index is built; None means full.
        document_tokens: tokens kept of a document, when an index is built; None means the model's maximum.
        factory: FAISS factory string, when an index is built.
        nprobe: lists of an IVF index that a search visits: more find more, and take longer; None means an eighth.
        ef_search: candidates that a search keeps in an HNSW index, likewise; None means 64.
    """

    model: str = "elastic-denser-small"
    subnet: SubnetName | None = None
    document_subnet: SubnetName | None = None
    document_tokens: int | None = Field(default=None, ge=8)
    factory: str = "Flat"
    nprobe: int | None = Field(default=None, ge=1, le=1_000_000)
    ef_search: int | None = Field(default=None, ge=1, le=1_000_000)


class BM25Config(_Settings):
    """Lucene's BM25 (Anserini's defaults), optionally with RM3 query expansion."""

    k1: float = Field(default=0.9, ge=0)
    b: float = Field(default=0.4, ge=0, le=1)
    rm3: bool = False


class FusionConfig(_Settings):
    """How a hybrid joins dense and BM25: reciprocal ranks, or weighted min-max scores."""

    method: Literal["rrf", "weighted"] = "rrf"
    dense_weight: float = Field(default=0.5, ge=0, le=1)


def _as_printed(share: float) -> float:
    return round(share, 4)


Share = Annotated[float, Field(ge=FINEST_SHARE, le=1), AfterValidator(_as_printed)]


class RerankerConfig(_Settings):
    """The reranker.

    Attributes:
        model: bundled name, folder or hub id.
        width: of every layer, at most 1, to four decimals, as levels print it.
        candidates: hits reranked.
        budget: share of the candidates' full candidate-layers spent when idle, likewise.
        retriever_weight: how much the retriever's scores, in standard deviations, add to the ranker's.
    """

    model: str = "elastic-ranker-small"
    width: Share = 1.0
    candidates: int = Field(default=50, ge=1, le=MAX_CANDIDATES)
    budget: Share = 1.0
    retriever_weight: float = Field(default=0.0, ge=0)


class PipelineConfig(_Settings):
    """A whole pipeline.

    Attributes:
        dataset: what to search: a folder of texts or in the BEIR layout, a JSONL, CSV or TSV file of documents, an
            ir_datasets id, or ``pydocs``; its index is built on first use.
        split: of a folder in the BEIR layout; None means ``test``.
        index: folder of a ready index; a missing or mismatched one is an error. None uses the cache.
        retriever: ``bm25``, ``dense`` or ``hybrid``.
        candidates: hits each retriever hands on; a hybrid fuses so many of each, and lists what is wanted beyond below.
        ladder: file of measured levels that ``elastic-ir sweep`` wrote, from which a search takes its level by the
            load; None shares one depth budget between the searches in flight.
        fallback: BM25 answers when the dense side fails, either side of a hybrid when the other does, and a level may
            name any of the three retrievers; false makes each such failure an error.
        shrink_with_load: the level follows the load; false answers every search at the idle level.
        precision: number format of matrix products; ``auto`` is bf16 where the processor has it, else int8.
    """

    dataset: str | None = None
    split: str | None = None
    index: str | None = None
    retriever: Literal["bm25", "dense", "hybrid"] = "dense"
    candidates: int = Field(default=100, ge=1, le=MAX_CANDIDATES)
    denser: DenserConfig = DenserConfig()
    bm25: BM25Config = BM25Config()
    fusion: FusionConfig = FusionConfig()
    reranker: RerankerConfig | None = None
    ladder: str | None = None
    fallback: bool = True
    shrink_with_load: bool = True
    precision: Literal["fp32", "bf16", "int8", "auto"] = "auto"

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


class IndexSpec(_Settings):
    """An index to build.

    Attributes:
        dataset: as in ``PipelineConfig``.
        split: likewise.
        model: denser: bundled name, folder or hub id; ``none`` builds BM25 only.
        width: of the document subnet, in (0, 1].
        depth: layers of the document subnet; None means all.
        factory: FAISS factory string.
    """

    dataset: str | None = None
    split: str | None = None
    model: str = "elastic-denser-small"
    width: float = Field(default=1.0, gt=0, le=1)
    depth: int | None = Field(default=None, ge=1)
    factory: str = "Flat"


def read_config(source: str | Path | Mapping[str, Any] | PipelineConfig) -> PipelineConfig:
    """A checked configuration from a YAML file or a mapping.

    Raises:
        ConfigError: naming the file, the key, what was found and what was wanted.
    """
    if isinstance(source, PipelineConfig):
        return source
    if isinstance(source, Mapping):
        return checked(PipelineConfig, source, "configuration")
    return checked(PipelineConfig, read_yaml(Path(source), "pipeline"), str(source))


def read_spec(path: Path | None, options: Mapping[str, Any]) -> IndexSpec:
    """A checked index specification: what ``options`` has (None means not given), then the YAML file, then defaults.

    Raises:
        ConfigError: naming the file or the options, the key, what was found and what was wanted.
    """
    spec = checked(IndexSpec, read_yaml(path, "index specification"), str(path)) if path else IndexSpec()
    given = {key: value for key, value in options.items() if value is not None}
    return checked(IndexSpec, spec.model_dump() | given, "index options")


class _Loader(yaml.SafeLoader):
    """The safe loader, which makes plain data only, but for a key that comes twice, of which it would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if key.value != "<<" and isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} comes twice", key.start_mark)
            seen |= {key.value} if isinstance(key, yaml.ScalarNode) else set()
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, what: str) -> Any:
    """What a YAML file of at most 1 MiB says; variables and ``~`` in it stay as they are.

    Args:
        path: the file.
        what: what it should be, for the error message, e.g. ``recipe``.

    Raises:
        ConfigError: if the file is missing, too large, not UTF-8, not YAML, or has a key twice.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigError(f"cannot read {what} {path}: {reason}; give the path of a YAML file") from exc
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than 1 MiB; wanted a {what} in YAML")
    try:
        return _Loader(content.decode("utf-8-sig")).get_single_data()
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8 ({exc.reason} at byte {exc.start}); wanted a {what} in YAML") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:  # a date like 2026-13-45 is a ValueError
        raise ConfigError(f"{path} is not YAML: {' '.join(str(exc).split())}") from exc


def checked(model: type[_Model], raw: Any, name: str) -> _Model:
    """``raw`` as a ``model``.

    Raises:
        ConfigError: naming ``name``, the key, what was found and what was wanted.
    """
    if not isinstance(raw, Mapping):
        example = next(iter(model.model_fields))
        raise ConfigError(f"{name}: found {type(raw).__name__}; wanted keys and values, e.g. '{example}: ...'")
    try:
        return model.model_validate(dict(raw))
    except ValidationError as exc:
        raise ConfigError(f"{name}: {_explain(model, exc)}") from exc


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    errors = error.errors()
    first = next((found for found in errors if found["type"] == "extra_forbidden"), errors[0])
    where = ".".join(map(str, first["loc"])) or "settings"
    if first["type"] == "extra_forbidden":
        return f"unknown key {where!r}{nearest(str(first['loc'][-1]), _keys_at(model, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"key {where!r} is missing"
    return f"{where}: found {_SHORT.repr(first['input'])}; {first['msg'].removeprefix('Value error, ')}"


def _keys_at(model: type[BaseModel], where: tuple[int | str, ...]) -> list[str]:
    """Keys of the section at ``where``; none if that is no section."""
    for name in (part for part in where if isinstance(part, str)):
        field = model.model_fields.get(name)
        inner = next(_models(field.annotation), None) if field is not None else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Settings that ``annotation`` names, such as those in ``tuple[Settings, ...] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
