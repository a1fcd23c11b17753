"""In place of Weights & Biases: writes down what the Trainer's integration asks of it, one JSON
object a line.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

run: Run | None = None
settings: dict[str, str] | None = None  # variables, read once as by the real one


class Config(dict):
    """Settings of a run."""

    def update(self, values: dict[str, Any], allow_val_change: bool = False) -> None:
        super().update(values)


class Run:
    """A run that is open."""

    def __init__(self) -> None:
        self.summary: dict[str, Any] = {}

    def _label(self, code: str) -> None:
        pass


config = Config()


def write(call: str, **what: Any) -> None:
    line = json.dumps({"tracker": "wandb", "call": call, **what})
    with Path(os.environ["TRACKER_CALLS"]).open("a") as file:
        file.write(line + "\n")


def init(**what: Any) -> None:
    global run, settings  # noqa: PLW0603
    run = Run()
    settings = settings or {k: v for k, v in os.environ.items() if k.startswith("WANDB_")}
    write("init", **what, environment=settings)


def log(values: dict[str, Any]) -> None:
    write("log", values=values)


def finish() -> None:
    global run  # noqa: PLW0603
    run = None
    write("finish")


def teardown() -> None:
    global settings  # noqa: PLW0603
    settings = None  # and a run that is open stays what `wandb.run` names


def define_metric(*args: Any, **more: Any) -> None:
    pass


for name in ("wandb.sdk", "wandb.sdk.lib", "wandb.sdk.lib.config_util"):
    sys.modules[name] = ModuleType(name)
sys.modules["wandb.sdk.lib.config_util"].ConfigError = ValueError  # type: ignore[attr-defined]
