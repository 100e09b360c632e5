"""What ``ElasticDenser``, ``ElasticRanker`` and ``ElasticClassifier`` share: settings, saving and uploading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from elastic_ir.elastic.checkpoint import Storage, save_checkpoint, upload
from elastic_ir.elastic.config import ElasticConfig
from elastic_ir.elastic.model import ElasticLM
from elastic_ir.elastic.scorer import ElasticScorer
from elastic_ir.elastic.tokens import Tokens
from elastic_ir.errors import ModelError

Role = Literal["denser", "ranker", "classifier"]
Settings = TypeVar("Settings", bound=BaseModel)


class Pretrained:
    """A model with its tokens, and the settings that its checkpoint keeps for its ``role``."""

    role: ClassVar[Role]
    model: ElasticLM | ElasticScorer
    tokens: Tokens
    settings: BaseModel

    @property
    def config(self) -> ElasticConfig:
        """Shape of the model."""
        return self.model.config

    def save_pretrained(self, folder: str | Path, *, storage: Storage = "float32") -> None:
        """Write the checkpoint; ``storage="int8"`` keeps matrices in a quarter of the size."""
        config = self.config.model_copy(update={self.role: self.settings.model_dump()})
        save_checkpoint(folder, config, self.model.state_dict(), self.tokens, storage)

    def push_to_hub(self, repo_id: str, **options: Any) -> None:
        """Save and upload to the Hugging Face hub; ``options`` go to ``huggingface_hub.HfApi.create_repo``."""
        upload(self.save_pretrained, repo_id, **options)


def settings_of(
    kind: type[Settings], found: Mapping[str, Any] | None, changes: Mapping[str, Any], what: str
) -> Settings:
    """``found`` with ``changes``, checked; ``what`` they are of, for messages.

    Raises:
        ModelError: if there is no such setting, or its value does not hold.
    """
    try:
        return kind.model_validate({**(found or {}), **changes})
    except ValidationError as exc:
        first = exc.errors()[0]
        raise ModelError(f"setting {'.'.join(map(str, first['loc']))!r} of {what}: {first['msg']}") from exc
