"""A copy of a LLaVA checkpoint that reads images and questions as LLaVA-1.5 does; its weights are
links.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cotbal.data.files import write_json, write_text
from cotbal.errors import CotbalError

PROCESSOR = "processor_config.json"
IMAGES = "preprocessor_config.json"
TOKENIZER = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
OLD_TEMPLATES = ("chat_template.json", "additional_chat_templates")
FAMILIES = ("CLIPImageProcessor", "LlavaImageProcessor")  # the latter is the former, and can pad


@dataclass(frozen=True)
class Preparation:
    """What a prepared copy consists of.

    Attributes:
        source: the checkpoint.
        written: file name -> JSON content or text that differs from the checkpoint's.
        left_out: files of the checkpoint that the copy does without.
        changes: what differs, in words; empty when the checkpoint is as it should be already.
    """

    source: Path
    written: dict[str, Any]
    left_out: tuple[str, ...]
    changes: tuple[str, ...]


def plan_preparation(checkpoint: Path, as_trained: bool) -> Preparation:
    """What has to change: images padded to squares, and the conversation of LLaVA-1.5
    (`vicuna_v1`).

    Args:
        as_trained: change nothing, and only check whether lmms-eval can work with it.

    Raises:
        CotbalError: no LLaVA checkpoint of Hugging Face, or a processor that cannot be made to pad.
    """
    config = _json(checkpoint / "config.json")
    if config.get("model_type") != "llava":
        raise CotbalError(
            f"{checkpoint}: expected a checkpoint of Hugging Face with model_type llava; found "
            f"{config.get('model_type')!r}; other models of lmms-eval: --model NAME",
            "unsupported-checkpoint",
        )
    template = template_of(checkpoint)
    if as_trained:
        if template is None:
            raise CotbalError(
                f"{checkpoint}: expected a chat template, which --as-trained needs; found none",
                "unsupported-checkpoint",
            )
        return Preparation(checkpoint, {}, (), ())
    padding, changes = _padding(checkpoint)
    vicuna = vicuna_template()
    if template == vicuna:
        return Preparation(checkpoint, padding, (), changes)
    written = padding | {TEMPLATE: vicuna}
    for name in (TOKENIZER, PROCESSOR):
        content = written.get(name) or _json_or_empty(checkpoint / name)
        if "chat_template" in content:
            written[name] = {key: value for key, value in content.items() if key != "chat_template"}
    before = "none before" if template is None else "its own"
    change = f"chat template: {before}, now vicuna_v1"
    return Preparation(checkpoint, written, OLD_TEMPLATES, (*changes, change))


def write_copy(preparation: Preparation, target: Path) -> Path:
    """Write the copy; `target` is replaced if it is one already.

    Raises:
        CotbalError: something else is at `target`.
    """
    mark = target / ".cotbal-prepared"
    if target.exists():
        if not mark.exists():
            raise CotbalError(
                f"{target}: exists and was not written by cotbal; give another directory",
                "existing-output",
            )
        shutil.rmtree(target)
    target.mkdir(parents=True)
    mark.touch()
    for path in sorted(preparation.source.iterdir()):
        if path.name not in (*preparation.written, *preparation.left_out, mark.name):
            (target / path.name).symlink_to(path.resolve(), target_is_directory=path.is_dir())
    for name, content in preparation.written.items():
        (write_text if isinstance(content, str) else write_json)(target / name, content)
    return target


def vicuna_template() -> str:
    """The conversation of LLaVA-1.5 as a chat template, for texts and for parts, with its system
    sentence.
    """
    path = files("cotbal.benchmarks.zeroshot").joinpath("vicuna_v1.jinja")
    return path.read_text(encoding="utf-8").rstrip("\n")


def template_of(checkpoint: Path) -> str | None:
    """The chat template of a checkpoint, wherever it has it; None without one."""
    if (checkpoint / TEMPLATE).exists():
        return (checkpoint / TEMPLATE).read_text(encoding="utf-8")
    for name in (PROCESSOR, "chat_template.json", TOKENIZER):
        template = _json_or_empty(checkpoint / name).get("chat_template")
        if template:
            return str(template)
    return None


def _padding(checkpoint: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The file that the image processor is read from, changed so that it pads, and the changes in
    words.
    """
    whole = _json_or_empty(checkpoint / PROCESSOR)
    nested = whole.get("image_processor")
    # Where both files describe it, transformers reads this one: do_pad in the other alone would do
    # nothing.
    name = PROCESSOR if isinstance(nested, dict) else IMAGES
    settings = nested if isinstance(nested, dict) else _json(checkpoint / IMAGES)
    kind, padded = str(settings.get("image_processor_type")), settings.get("do_pad", False)
    if not kind.startswith(FAMILIES):
        raise CotbalError(
            f"{checkpoint / name}: expected {' or '.join(FAMILIES)}, which can be made to pad;"
            f" found {kind}; --as-trained keeps it",
            "unsupported-checkpoint",
        )
    able = kind if kind.startswith(FAMILIES[1]) else FAMILIES[1]
    changes = []
    if able != kind:
        changes.append(f"image processor: {kind}, now {able}")
    if padded is not True:
        changes.append(f"do_pad: {json.dumps(padded)}, now true")
    if not changes:
        return {}, ()
    content = settings | {"do_pad": True, "image_processor_type": able}
    if name == PROCESSOR:
        content = whole | {"image_processor": content}
    return {name: content}, tuple(changes)


def _json_or_empty(path: Path) -> dict[str, Any]:
    return _json(path) if path.exists() else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CotbalError(
            f"{path}: expected a JSON file of a checkpoint; {error}", "broken-file"
        ) from None
    if not isinstance(content, dict):
        raise CotbalError(
            f"{path}: expected a JSON mapping; found {type(content).__name__}", "broken-file"
        )
    return content
