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
TRIALS = """weight:a,weight:b,score:a,score:b,seed
1,1,.5,.5,0
2,.5,.6,.4,0
.5,2,.4,.6,0
1.4,.7,.55,.45,0
.7,1.4,.45,.55,0
1,1,.51,.5,1
"""
SCORES = "run,a,b\nmini,0.2,0.3\nfull:a,0.7,0.4\nfull:b,0.3,0.8\n"
TRAINING = {"torch", "transformers", "peft", "accelerate", "tokenizers"}
TABLES = {"pyarrow", "ijson", "PIL"}
PAGE = {"jinja2", "cotbal.report.page"}
RECIPE = {"yaml", "cotbal.recipe.schema"}
NUMBERS = {"numpy", "jaxtyping", "cotbal.balance"}
OTHERS = {"cotbal.cli.prepare", "cotbal.cli.judge"}
# pyarrow imports it where it converts from and to NumPy; parquet is read by few mixtures.
FRAMES = {"pandas", "pyarrow.parquet", "scipy"}
PLUGINS = {"PIL.PdfParser", "PIL.EpsImagePlugin"}  # of images that are not opened
# Typer imports pydantic to read the arguments of a command, so only the help page is without it.
ABSENT = {
    "--help": TRAINING
    | TABLES
    | PAGE
    | RECIPE
    | NUMBERS
    | FRAMES
    | {"pydantic", "filelock", "importlib.metadata"},
    "status small": TRAINING | TABLES | PAGE | RECIPE | NUMBERS | FRAMES | OTHERS,
    "weights --scores scores.csv": TRAINING | TABLES | PAGE | RECIPE | FRAMES | {"filelock"},
    "steer --trials trials.csv": TRAINING | PAGE | FRAMES | PLUGINS,
    "plan mixture/recipe.yaml": TRAINING | PAGE | FRAMES | PLUGINS,
    "check mixture/recipe.yaml": TRAINING | PAGE | FRAMES | PLUGINS,
    "verify small": TRAINING | PAGE | FRAMES | PLUGINS,
    "report small": TRAINING | FRAMES | PLUGINS | {"pyarrow", "ijson"},
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture, the run directory `small` of a finished job, and tables of scores and
    trials.
    """
    made = tmp_path_factory.mktemp("startup")
    recipe = str(write_mixture(made / "mixture"))
    (made / "scores.csv").write_text(SCORES)
    (made / "trials.csv").write_text(TRIALS)
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
