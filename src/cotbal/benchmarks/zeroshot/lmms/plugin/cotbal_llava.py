"""A model for lmms-eval 0.7.3, run in its environment: `llava_hf` that reads text-only questions
and fails aloud.

The model of lmms-eval answers a question without an image with what it had asked before, or not at
all, and turns every error of generation into an empty answer that is then scored as wrong. Neither
is said in its results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmms_eval.models.chat.llava_hf import LlavaHf
from lmms_eval.models.registry_v2 import ModelManifest


class GenerationFailed(BaseException):
    """Not an `Exception`, so that the harness cannot take it for an empty answer."""


class TextToo:
    """A processor for which no image at all is none, not an empty batch of images."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __call__(self, images: Any = None, **inputs: Any) -> Any:
        """What the processor makes of text and images."""
        return self._processor(images=images or None, **inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)


class CotbalLlava(LlavaHf):
    """LLaVA as Hugging Face has it, asked through the chat template of its processor."""

    is_simple = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._image_processor: Any = TextToo(self._image_processor)
        self.model.generate = _aloud(self.model.generate)


def _aloud(generate: Callable[..., Any]) -> Callable[..., Any]:
    def generate_or_fail(*inputs: Any, **options: Any) -> Any:
        try:
            return generate(*inputs, **options)
        except Exception as error:
            raise GenerationFailed(f"generation failed: {error!r}") from error

    return generate_or_fail


def manifest() -> ModelManifest:
    """What the entry point of this plugin tells lmms-eval."""
    return ModelManifest(model_id="cotbal_llava", chat_class_path="cotbal_llava.CotbalLlava")
