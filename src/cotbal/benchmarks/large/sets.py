"""The seventeen data sets of the Large Benchmark: their places in M3IT, sizes and metrics.

Sizes are those of M3IT's card; where its validation serves as test as well, half of it does each
(see `export`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        name: of the task, as the paper prints it.
        config: what M3IT calls it.
        group: whose weight it shares.
        train, validation, test: rows in M3IT; no rows of test mean that validation is cut in two.
        metric: of validation and test.
        remark: what the paper leaves open.
    """

    name: str
    config: str
    group: str
    train: int
    validation: int
    test: int
    metric: str = "exact_match"
    remark: tuple[str, ...] = ()

    @property
    def halved(self) -> bool:
        """Whether validation is cut in two, one half of it being the test set."""
        return self.test == 0


_COCO = (
    (
        "COCO: captions of one image are one sample with several right answers in validation and"
        " test."
    ),
)
_TEXTCAP = (
    (
        "TextCap: M3IT has no test split; the halves of its validation are drawn by rows, as in the"
        " other sets."
    ),
)
_SQA = ("SQA: rows without an image are left out, as the sizes of the paper imply (n = 2017).",)
_VCR = (
    (
        "VCR is in the paper's column NLVR: the printed values need 5,000 test samples, which"
        " M3IT's NLVR has not, and"
    ),
    "the released files hold VCR. `--nlvr` takes NLVR as printed.",
)
_NLVR = ("NLVR: its two images become one, side by side. The released files hold VCR instead.",)
_MULTI30K = (
    "Multi30k: GLEU by sentence (`gleu`); the paper does not say whether by sentence or by corpus.",
)

NLVR = DataSet("NLVR", "nlvr", "reasoning", 29_372, 2_000, 0, remark=_NLVR)
VCR = DataSet("VCR", "vcr", "reasoning", 25_000, 5_000, 5_000, remark=_VCR)


def data_sets(nlvr: bool = False) -> tuple[DataSet, ...]:
    """All seventeen, group by group; `nlvr` takes NLVR as printed in place of VCR as released."""
    return (
        DataSet("COCO", "coco", "captioning", 566_747, 25_010, 25_010, "cider", _COCO),
        DataSet("TextCap", "textcap", "captioning", 97_765, 13_965, 0, "cider", _TEXTCAP),
        DataSet(
            "ParaCap", "image-paragraph-captioning", "captioning", 14_575, 2_487, 2_489, "cider"
        ),
        DataSet("C-GOI", "coco-goi", "classification", 30_000, 2_000, 0),
        DataSet("C-Text", "coco-text", "classification", 118_312, 27_550, 0),
        DataSet("ImageNet", "imagenet", "classification", 30_000, 50_000, 0),
        DataSet("C-ITM", "coco-itm", "classification", 30_000, 5_000, 5_000),
        DataSet("SNLI-VE", "snli-ve", "classification", 20_000, 14_339, 14_740),
        DataSet("Mocheg", "mocheg", "classification", 4_991, 180, 466),
        DataSet("Shapes", "shapes", "vqa", 13_568, 1_024, 1_024),
        DataSet("OCRVQA", "ocr-vqa", "vqa", 11_414, 4_940, 0),
        DataSet("GQA", "gqa", "vqa", 30_001, 5_001, 0),
        DataSet("SQA", "science-qa", "reasoning", 6_218, 2_097, 2_017, remark=_SQA),
        DataSet("CLEVR", "clevr", "reasoning", 30_000, 2_000, 0),
        NLVR if nlvr else VCR,
        DataSet("VisDial", "visual-dialog", "generation", 50_000, 1_000, 1_000),
        DataSet("Multi30k", "multi30k", "generation", 90_000, 6_000, 12_000, "gleu", _MULTI30K),
    )
