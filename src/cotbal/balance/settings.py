"""How scores become weights: form, temperature, intervals."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cotbal.balance.probes import Difficulty, Form

LARGEST_SEED = 2**32 - 1  # of NumPy, and so of the trainer
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]


def not_boolean(value: Any) -> Any:
    """Reject true and false, which pydantic reads as 1 and 0.

    Raises:
        ValueError: the value is one, or a list with one.
    """
    parts = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(part, bool) for part in parts):
        raise ValueError("expected no true or false")
    return value


class Section(BaseModel):
    """Fields of a recipe: none is unknown, and numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_not_booleans(cls, value: Any, info: Any) -> Any:
        field = cls.model_fields[info.field_name]
        return value if field.annotation is bool else not_boolean(value)


class Settings(Section):
    """How scores become weights; the section `balance` of a recipe adds `seeds` and `replicates`.

    Attributes:
        form: `standard` (Eq. 3) or `simple` (Eq. 15); None: the form that the rows of the table
            were made for.
        difficulty: `real` (Eq. 9) or `precise` (Eq. 17); the simple form always uses Eq. 16.
        shrink: pull contributions toward their mean by their own noise (not part of the paper, see
            `cotbal.balance.shrinkage`).
        temperature: tau of Eq. 5, 7, 10, or `auto`: the smallest one that keeps every weight inside
            `weight_range`. It is computed once, so intervals are those of the weights at this
            temperature.
        weight_range: smallest and largest weight for `auto`.
        equal_below: smallest share of identified receivers, and of identified difficulties, for
            weights other than 1; 0 insists on weights whatever they rest on.
        bootstrap: number of resampled score matrices behind every interval.
        seed: of the resampling.

    Raises:
        pydantic.ValidationError: a value is out of range, or there is no such setting.
    """

    form: Form | None = None
    difficulty: Difficulty = "real"
    shrink: bool = Field(False, strict=True)
    temperature: Annotated[float, Field(gt=0)] | Literal["auto"] = 0.5
    weight_range: tuple[float, float] = (0.5, 2.0)
    equal_below: float = Field(0.5, ge=0, le=1)
    bootstrap: int = Field(2000, ge=100)
    seed: Seed = 0

    def changed(self, **changes: Any) -> Settings:
        """A copy with other values, validated."""
        return type(self).model_validate({**self.model_dump(), **changes})

    @model_validator(mode="after")
    def _range_holds_one(self) -> Settings:
        low, high = self.weight_range
        if not 0 < low < 1 < high:
            raise ValueError(
                f"weight_range must hold the mean weight 1 inside it; found [{low}, {high}]"
            )
        return self
