"""What a configuration of accelerate may ask for in the runs of a recipe; read without torch,
before any run starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cotbal.errors import CotbalError, RecipeError
from cotbal.recipe.recipe import Recipe
from cotbal.recipe.strict_yaml import read_yaml

FIELD = "resources.accelerate_config"
STAGES = ("1", "2", "3")
UNSUPPORTED = "unsupported-sharding"


@dataclass(frozen=True)
class Sharing:
    """How a launch shards models over its ranks.

    Attributes:
        by: None for plain data parallelism.
        fsdp_version: as it is written, `1` where nothing is.
        zero_stage: as it is written.
        offload: whether parameters or the optimizer are to lie in the memory of CPUs, or on disks.
        config_file: whether DeepSpeed has a file of its own.
    """

    by: Literal["fsdp", "deepspeed"] | None
    fsdp_version: str = "1"
    zero_stage: str = ""
    offload: bool = False
    config_file: bool = False


def of_file(path: Path) -> Sharing:
    """What a file that `accelerate config` wrote asks for.

    Raises:
        RecipeError: there is no such file, it is not YAML, or a section is none.
    """
    if not path.is_file():
        raise RecipeError(
            f"{FIELD}: expected a file that `accelerate config` wrote; found no file {path}",
            "missing-file",
        )
    content = read_yaml(path, version="1.1")  # as accelerate reads it
    kind = str(content.get("distributed_type", "NO")).upper()
    if kind == "FSDP":
        return _fsdp(_section(path, content, "fsdp_config"))
    if kind == "DEEPSPEED":
        options = _section(path, content, "deepspeed_config")
        return _deepspeed(options, options.get("deepspeed_config_file"))
    return Sharing(None)


def _section(path: Path, content: Mapping[str, Any], key: str) -> dict[str, Any]:
    section = content.get(key) or {}
    if not isinstance(section, dict):
        raise RecipeError(
            f"{path}: {key}: expected keys with values; found {section!r:.60}", "wrong-type"
        )
    return section


def of_environment(environment: Mapping[str, str]) -> Sharing:
    """What `accelerate launch` has put into the environment of its ranks."""
    if _is_true(environment.get("ACCELERATE_USE_DEEPSPEED")):
        prefix = "ACCELERATE_DEEPSPEED_"
        options = {
            name.removeprefix(prefix).lower(): value
            for name, value in environment.items()
            if name.startswith(prefix)
        }
        return _deepspeed(options, options.get("config_file"))
    if _is_true(environment.get("ACCELERATE_USE_FSDP")):
        return _fsdp({name.lower(): value for name, value in environment.items()})
    return Sharing(None)


def _fsdp(options: Mapping[str, Any]) -> Sharing:
    version = str(options.get("fsdp_version", 1))
    return Sharing("fsdp", version, offload=_is_true(options.get("fsdp_offload_params")))


def _deepspeed(options: Mapping[str, Any], file: Any) -> Sharing:
    offload = any(
        _is_elsewhere(options.get(f"offload_{what}_device")) for what in ("optimizer", "param")
    )
    stage = str(options.get("zero_stage", ""))
    return Sharing("deepspeed", "", stage, offload, _is_elsewhere(file))


def _is_true(value: Any) -> bool:
    return str(value).lower() in ("true", "1")


def _is_elsewhere(value: Any) -> bool:
    return str(value).lower() not in ("none", "")


def problem_of(sharing: Sharing, quantized: bool = False, compiled: bool = False) -> str | None:
    """Why the runs of a recipe cannot be sharded like this, in one sentence; None if they can.

    Args:
        quantized: whether the recipe holds layers in four bits.
        compiled: whether it compiles layers.
    """
    if sharing.by is None:
        return None
    if compiled:
        return (
            f"model.compile: sharded layers are not compiled; set it to false, or leave {FIELD} out"
        )
    if quantized:
        return f"model.quantization: four bits are not sharded over ranks; leave {FIELD} out"
    return _problem_of_fsdp(sharing) if sharing.by == "fsdp" else _problem_of_deepspeed(sharing)


def _problem_of_fsdp(sharing: Sharing) -> str | None:
    if sharing.fsdp_version != "2":
        return (
            f"{FIELD}: expected fsdp_version: 2 in fsdp_config; found the first version of FSDP,"
            " with which nobody has tried the runs of a recipe"
        )
    if sharing.offload:
        return f"{FIELD}: expected fsdp_offload_params: false; parameters on CPUs are not supported"
    return None


def _problem_of_deepspeed(sharing: Sharing) -> str | None:
    if sharing.config_file:
        return (
            f"{FIELD}: expected zero_stage in deepspeed_config, and no deepspeed_config_file:"
            " batch, clipping, precision, optimizer and schedule are those of the recipe, and such"
            " a file may say otherwise"
        )
    if sharing.zero_stage not in STAGES:
        stage = sharing.zero_stage or "none"
        return f"{FIELD}: expected zero_stage: 1, 2 or 3 in deepspeed_config; found {stage}"
    if sharing.offload:
        return (
            f"{FIELD}: expected offload_optimizer_device and offload_param_device: none; optimizer"
            " and parameters on CPUs or disks are not supported"
        )
    return None


def reject_unsupported(sharing: Sharing, quantized: bool = False) -> None:
    """Raise an error if `problem_of` finds a problem.

    Raises:
        CotbalError: the runs of a recipe cannot be sharded like this.
    """
    if problem := problem_of(sharing, quantized):
        raise CotbalError(problem, UNSUPPORTED)


def problems(recipe: Recipe) -> list[tuple[Path, str]]:
    """What is wrong with the configurations that probes and final runs of a recipe are started
    with, by file.
    """
    listed: dict[tuple[Path, str], None] = {}
    for one in (recipe, recipe.for_probes):
        path = one.resources.accelerate_config
        if path is None:
            continue
        model = one.file.model
        quantized = model is not None and model.quantization is not None
        compiled = model is not None and model.compile
        try:
            problem = problem_of(of_file(path), quantized, compiled)
        except RecipeError as error:
            problem = str(error)
        if problem:
            listed[path, problem] = None
    return list(listed)
