"""What the README shows is true of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

import elastic_ir
from elastic_ir.cli import app
from elastic_ir.config import read_config
from elastic_ir.train import Recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def test_python_examples_import_what_exists() -> None:
    for page in PAGES:
        for block in blocks(page, "python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and node.module == "elastic_ir":
                    assert {alias.name for alias in node.names} <= set(elastic_ir.__all__)


def test_commands_shown_exist() -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups if group.name}
    for page in PAGES:
        shown = re.findall(r"elastic-ir ([a-z]+)", page.read_text("utf-8"))
        assert set(shown) <= known


def test_yaml_examples_are_valid() -> None:
    for block in blocks(ROOT / "README.md", "yaml"):
        read_config(yaml.safe_load(block) | {"dataset": "pydocs"})
    for block in blocks(ROOT / "docs" / "training.md", "yaml"):
        Recipe.model_validate(yaml.safe_load(block))


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda path: path.stem)
def test_pipelines_that_come_along_are_valid(path: Path) -> None:
    assert read_config(path).retriever in ("bm25", "dense", "hybrid")
