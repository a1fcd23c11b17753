"""What a command imports before it works: packages that it does not need would delay it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.pipeline_fakes import EXECUTOR, write_mixture

TESTS = str(Path(__file__).parents[2])
COMMAND = "from cotbal.cli.app import main; main()"
IMPORTS = """
import atexit, json, sys
from cotbal.cli.app import main

atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
main()
"""
SCORES = "run,a,b\nmini,0.2,0.3\nfull:a,0.7,0.4\nfull:b,0.3,0.8\n"
TRAINING = {"torch", "transformers", "peft", "accelerate", "tokenizers"}
TABLES = {"pyarrow", "ijson", "PIL"}
PAGE = {"jinja2", "cotbal.report.page"}
RECIPE = {"yaml", "cotbal.recipe.schema"}
NUMBERS = {"numpy", "jaxtyping", "cotbal.balance"}
# Typer imports pydantic to read the arguments of a command, so only the help page is without it.
ABSENT = {
    "--help": TRAINING | TABLES | PAGE | RECIPE | NUMBERS | {"pydantic", "filelock"},
    "status small": TRAINING | TABLES | PAGE | RECIPE | NUMBERS,
    "weights --scores scores.csv": TRAINING | TABLES | PAGE | RECIPE | {"filelock"},
    "plan mixture/recipe.yaml": TRAINING | PAGE,
    "check mixture/recipe.yaml": TRAINING | PAGE,
    "report small": TRAINING | {"pyarrow", "ijson"},
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture, the run directory `small` of a finished job, and a table of scores."""
    made = tmp_path_factory.mktemp("startup")
    recipe = str(write_mixture(made / "mixture"))
    (made / "scores.csv").write_text(SCORES)
    run(COMMAND, ["run", recipe, "--on", EXECUTOR, "--out", "small"], made)
    return made


def run(code: str, line: list[str], directory: Path) -> str:
    paths = [TESTS, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", code, *line],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


@pytest.mark.parametrize("line", ABSENT)
def test_a_command_imports_only_what_it_needs(directory: Path, line: str) -> None:
    imported = set(json.loads(run(IMPORTS, line.split(), directory).splitlines()[-1]))
    assert "cotbal.cli.app" in imported
    assert sorted(imported & ABSENT[line]) == []
