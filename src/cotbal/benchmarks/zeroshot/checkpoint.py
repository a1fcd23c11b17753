"""A copy of a LLaVA checkpoint that reads pictures and questions as LLaVA-1.5 does; its weights are
links.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cotbal.errors import CotbalError
from cotbal.jobs.rundir import write_json, write_text

PROCESSOR, IMAGES, TOKENIZER = (
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer_config.json",
)
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
    """What has to change: pictures padded to squares, and the conversation of LLaVA-1.5
    (`vicuna_v1`).

    Args:
        as_trained: change nothing, and only look whether lmms-eval can work with it.

    Raises:
        CotbalError: no LLaVA checkpoint of Hugging Face, or a processor that cannot be made to pad.
    """
    config = _json(checkpoint / "config.json")
    if config.get("model_type") != "llava":
        raise CotbalError(
            f"{checkpoint}: expected a checkpoint of Hugging Face with model_type llava; found "
            f"{config.get('model_type')!r}; other models of lmms-eval: --model NAME"
        )
    own = template_of(checkpoint)
    if as_trained:
        if own is None:
            raise CotbalError(
                f"{checkpoint}: expected a chat template; found none, so it cannot be asked"
                " --as-trained"
            )
        return Preparation(checkpoint, {}, (), ())
    pictures, changes = _padding(checkpoint)
    ours = vicuna_template()
    if own == ours:
        return Preparation(checkpoint, pictures, (), changes)
    written = pictures | {TEMPLATE: ours}
    for name in (TOKENIZER, PROCESSOR):
        content = written.get(
            name, _json(checkpoint / name) if (checkpoint / name).exists() else {}
        )
        if "chat_template" in content:
            written[name] = {key: value for key, value in content.items() if key != "chat_template"}
    said = (
        "chat template: none before, now vicuna_v1"
        if own is None
        else "chat template: its own, now vicuna_v1"
    )
    return Preparation(checkpoint, written, OLD_TEMPLATES, (*changes, said))


def carry_out(preparation: Preparation, target: Path) -> Path:
    """Write the copy; `target` is replaced if it is one already.

    Raises:
        CotbalError: something else lies at `target`.
    """
    mark = target / ".cotbal-prepared"
    if target.exists():
        if not mark.exists():
            raise CotbalError(
                f"{target} exists, was not written by cotbal and was left as it is; give another"
                " place"
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
    return (
        files("cotbal.benchmarks.zeroshot")
        .joinpath("vicuna_v1.jinja")
        .read_text(encoding="utf-8")
        .rstrip("\n")
    )


def template_of(checkpoint: Path) -> str | None:
    """The chat template of a checkpoint, wherever it has it; None without one."""
    if (checkpoint / TEMPLATE).exists():
        return (checkpoint / TEMPLATE).read_text(encoding="utf-8")
    for name in (PROCESSOR, "chat_template.json", TOKENIZER):
        if (checkpoint / name).exists() and (
            found := _json(checkpoint / name).get("chat_template")
        ):
            return str(found)
    return None


def _padding(checkpoint: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The file that the image processor is read from, changed so that it pads, and the changes in
    words.
    """
    whole = _json(checkpoint / PROCESSOR) if (checkpoint / PROCESSOR).exists() else {}
    nested = whole.get("image_processor")
    # Where both files describe it, transformers reads this one: do_pad in the other alone would do
    # nothing.
    name = PROCESSOR if isinstance(nested, dict) else IMAGES
    settings = nested if isinstance(nested, dict) else _json(checkpoint / IMAGES)
    kind, padded = str(settings.get("image_processor_type")), settings.get("do_pad", False)
    if not kind.startswith(FAMILIES):
        raise CotbalError(
            f"{checkpoint / name}: expected {' or '.join(FAMILIES)}, which can be made to pad;"
            f" found {kind}; --as-trained leaves it as it is"
        )
    able = kind if kind.startswith(FAMILIES[1]) else FAMILIES[1]
    changes = [] if able == kind else [f"image processor: {kind}, now {able}"]
    changes += [] if padded is True else [f"do_pad: {json.dumps(padded)}, now true"]
    if not changes:
        return {}, ()
    padding = settings | {"do_pad": True, "image_processor_type": able}
    return {name: whole | {"image_processor": padding} if name == PROCESSOR else padding}, tuple(
        changes
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CotbalError(f"{path}: expected a JSON file of a checkpoint; {error}") from None
    if not isinstance(content, dict):
        raise CotbalError(f"{path}: expected a JSON mapping; found {type(content).__name__}")
    return content
