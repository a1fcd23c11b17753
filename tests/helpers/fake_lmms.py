"""A stand-in for the environment of lmms-eval: it answers as the real one did when
`recorded/lmms_eval` was made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

RECORDED = Path(__file__).parents[1] / "unit" / "harnesses" / "recorded" / "lmms_eval"
FOUND = {
    "tasks": "/opt/lmms/tasks",
    "version": "0.7.3",
    "decord": True,
    "transformers": "5.24.0",
    "torch": "2.13.0",
}
# A failing evaluation of the real one prints a traceback and may end with code 0.
PROGRAM = """#!{python}
import json, os, shutil, sys
if sys.argv[1] == "-c":
    print({found!r})
    sys.exit()
if sys.argv[1:3] != ["-m", "lmms_eval"]:
    sys.exit(f"No module named {{sys.argv[2]}}")  # it need not have cotbal
given = dict(zip(sys.argv, sys.argv[1:]))
model = given["--model_args"].removeprefix("pretrained=").split(",")[0].split("/")
model = model[-2] if model[-1] == "checkpoint" else model[-1]
print("evaluating", model, "on", given["--tasks"], os.environ["PYTHONPATH"].split(":")[0])
error = os.environ.get("FAKE_FAULT", "")
if error and given["--tasks"].startswith(error):
    print("OutOfFrogs: no frog is left")
    sys.exit(int(os.environ["FAKE_CODE"]))
shutil.copytree(os.path.join({recorded!r}, model), given["--output_path"])
"""
IMAGES = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 336},
    "image_mean": [0.5, 0.5, 0.5],
}


def interpreter(directory: Path, **facts: object) -> str:
    """The stand-in as an executable."""
    path = directory / "python"
    text = json.dumps({**FOUND, **facts})
    path.write_text(PROGRAM.format(python=sys.executable, found=text, recorded=str(RECORDED)))
    path.chmod(0o755)
    return str(path)


def write_checkpoint(directory: Path, template: str | None = "own", **files: object) -> Path:
    """A LLaVA checkpoint as published ones are: a CLIP processor in a file of its own."""
    directory.mkdir(parents=True)
    content: dict[str, object] = {
        "config.json": {"model_type": "llava"},
        "tokenizer_config.json": {"eos_token": "</s>"},
        "processor_config.json": {"patch_size": 14},
        "preprocessor_config.json": IMAGES,
        **{f"{name}.json": value for name, value in files.items()},
    }
    for name, value in content.items():
        if value is not None:
            (directory / name).write_text(json.dumps(value))
    (directory / "model.safetensors").write_bytes(directory.name.encode())
    if template is not None:
        (directory / "chat_template.jinja").write_text(template)
    return directory
