"""A service over the six documents, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from six_documents import write_six_documents


class Service(NamedTuple):
    url: str
    process: subprocess.Popen[str]
    folder: Path
    index: Path
    log: Path


@pytest.fixture(scope="package")
def start_service(
    settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Service]]:
    """Starts services on free ports; ends them at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str, token: str | None = None) -> Service:
        folder = tmp_path_factory.mktemp("service")
        index = folder / "index"
        documents = write_six_documents(folder / "six")
        config = folder / "pipeline.yaml"
        config.write_text(json.dumps(settings))
        build = ["index", "--dataset", str(documents), "--output", str(index), "--model", settings["denser"]["model"]]
        subprocess.run([sys.executable, "-m", "elastic_ir.cli", *build], check=True, capture_output=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({"ELASTIC_IR_TOKEN": token} if token else {})
        log = folder / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "elastic_ir.cli", "serve", str(config), "--index", str(index), "--port", "0",
                 "--slo-ms", "2000", *options],
                stdout=subprocess.PIPE, stderr=errors, text=True, env=environment,
            )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("http://"):
                return Service(line.split()[0], process, folder, index, log)
        raise AssertionError(log.read_text())

    yield start
    for process in started:
        process.terminate()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="package")
def service(start_service: Callable[..., Service]) -> Service:
    """One that the tests share."""
    return start_service()
