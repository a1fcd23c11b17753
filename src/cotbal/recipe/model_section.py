"""The section `model` of a recipe file, field by field, with its defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from cotbal.balance.settings import Section

# YAML 1.2 knows true and false; pydantic would read the texts yes, no, on and off as booleans too.
Flag = Annotated[bool, Field(strict=True)]
Training = Literal["frozen", "full", "lora"]


def without_none(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, without this one if it is None."""
    if fields[name] is None:
        del fields[name]
    return fields


class Lora(Section):
    """Low-rank adapters (Hu et al. 2021) on the parts of the model that the recipe trains with
    `lora`.
    """

    rank: int = Field(16, ge=1)
    alpha: float = Field(32, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] | None = None  # names of linear layers; None: every one of the part


class ModelSection(Section):
    """The base checkpoint and which of its parts are trained."""

    checkpoint: str
    vision: Training = "frozen"
    projector: Training = "full"
    language: Training = "full"
    lora: Lora = Lora()
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    max_length: int = Field(2048, ge=8)  # tokens, images included
    remote_code: Flag = False
    gradient_checkpointing: Flag = False
    # QLoRA: the linear layers of the parts trained with lora are held in four bits.
    quantization: Literal["nf4"] | None = None
    compile: Flag = False  # the layers of the language model, in training, by torch.compile

    @model_validator(mode="after")
    def _quantized_parts_have_adapters(self) -> ModelSection:
        if self.quantization and "lora" not in (self.vision, self.projector, self.language):
            raise ValueError(
                f"quantization: {self.quantization} holds the parts that are trained with lora in"
                " four bits, and no part is; set language: lora, or leave quantization out"
            )
        return self

    @model_validator(mode="after")
    def _quantized_layers_are_not_compiled(self) -> ModelSection:
        if self.quantization and self.compile:
            raise ValueError(
                f"quantization: {self.quantization} is not supported together with compile; set"
                " compile: false, or leave quantization out"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Runs are identified by these fields; those without quantization keep their identity, and
        # recipes that compile nothing their fingerprint.
        fields = without_none("quantization", serialize(self))
        if not self.compile:
            fields.pop("compile", None)
        return fields
