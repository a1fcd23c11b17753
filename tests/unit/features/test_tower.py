"""A vision tower that encodes every image once, and the towers that must not."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from cotbal.training.features.images import ImageFeatures
from cotbal.training.features.layers import LayersOfTower
from cotbal.training.features.store import Store
from cotbal.training.features.tower import identity_of
from helpers.errors import names_all


class Encoder(nn.Module):
    """Counts the images that it encodes."""

    def __init__(self, extra: Callable[[Tensor], Any] = lambda hidden: None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(12))
        self.shift = nn.Parameter(torch.rand(12))
        self.extra = extra
        self.images = 0

    def forward(self, pixels: Tensor, mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
        self.images += len(pixels)
        hidden = self.encoded(pixels.flatten(1))
        if mask is not None:
            hidden = hidden * mask
        return BaseModelOutput(last_hidden_state=hidden, hidden_states=self.extra(hidden))

    def encoded(self, pixels: Tensor) -> Tensor:
        """Rounds the same in every batch."""
        return pixels * self.scale + self.shift


class Rounding(Encoder):
    """Rounds differently for another number of images, as products of matrices may."""

    def encoded(self, pixels: Tensor) -> Tensor:
        noise = pixels.abs() * (len(pixels) * torch.finfo(torch.float32).eps)
        return super().encoded(pixels) + noise


class Model(nn.Module):
    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.base_model = None

    def get_encoder(self, modality: str) -> nn.Module:
        return self.tower


def attached(tower: nn.Module, budget: int = 2**20, **options: Any) -> tuple[ImageFeatures, list]:
    lines: list[str] = []
    features = ImageFeatures(budget, report=lines.append, **options)
    features.attach(Model(tower.requires_grad_(False).eval()), training=True)
    return features, lines


def pixels(*seeds: int) -> Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(3, 2, 2, generator=g) for g in generators])


def test_an_image_is_encoded_once_wherever_it_appears() -> None:
    tower = Encoder()
    plain = tower(pixels(1, 2, 3, 4)).last_hidden_state
    features, lines = attached(tower)
    assert torch.equal(tower(pixels(1, 2)).last_hidden_state, plain[:2])
    tower.images = 0
    assert torch.equal(tower(pixels(2, 1, 2)).last_hidden_state, plain[[1, 0, 1]])
    assert tower.images == 0
    assert torch.equal(tower(pixels(3, 2, 3, 4)).last_hidden_state, plain[[2, 1, 2, 3]])
    assert tower.images == 2
    features.save()
    (line,) = lines
    assert names_all(line, "4 images", 9)


def test_features_do_not_depend_on_what_was_known_where_batches_round_differently() -> None:
    tower = Rounding()
    alone = torch.cat([tower(pixels(seed)).last_hidden_state for seed in range(5)])
    together = tower(pixels(0, 1, 2, 3, 4)).last_hidden_state
    assert not torch.equal(alone, together)
    for batches in (((0, 1), (2, 3), (4, 0)), ((4,), (3, 2, 1), (0, 1, 2, 3, 4))):
        attached(tower)
        for seeds in batches:
            assert torch.equal(tower(pixels(*seeds)).last_hidden_state, alone[[*seeds]])
        del tower.forward


def test_every_argument_identifies_an_image() -> None:
    tower = Encoder()
    attached(tower)
    mask = torch.tensor([[1.0], [2.0]])
    once = tower(pixels(1, 2)).last_hidden_state
    for factor in (mask, mask.flip(0)):
        again = tower(pixels(1, 2), mask=factor).last_hidden_state
        assert torch.equal(again, once * factor)
    tower.images = 0
    tower(pixels(1), flag=True)
    assert tower.images == 1
    with torch.autocast("cpu", torch.bfloat16):
        tower(pixels(1))
    assert tower.images == 2
    tower(pixels(1), flag=True)
    assert tower.images == 2


def test_parts_of_the_output_with_the_same_values_are_kept_once() -> None:
    tower = Encoder(lambda hidden: (None, hidden))
    features, _ = attached(tower)
    for _ in range(2):
        output = tower(pixels(1, 2))
        assert output.hidden_states[0] is None
        assert torch.equal(output.hidden_states[1], output.last_hidden_state)
    (store,) = features._stores.values()
    assert store.bytes == 2 * 12 * 4


def test_features_of_answers_serve_a_training() -> None:
    tower = Encoder()
    attached(tower)
    with torch.inference_mode():
        tower(pixels(1, 2))
    head = nn.Linear(12, 1)
    head(tower(pixels(1, 2)).last_hidden_state).sum().backward()
    assert head.weight.grad is not None


def test_whoever_changes_an_output_changes_no_feature() -> None:
    tower = Encoder()
    attached(tower)
    first = tower(pixels(1)).last_hidden_state.clone()
    tower(pixels(1)).last_hidden_state.zero_()
    assert torch.equal(tower(pixels(1)).last_hidden_state, first)


def test_runs_share_features_of_one_tower_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tower, other = Encoder(), Encoder()
    assert identity_of(tower) != identity_of(other)
    first = 4  # two images, together and alone, to see how an output is divided
    for checkpoint, encoded in ((tower, first + 2), (other, first + 2), (tower, first)):
        encoder = deepcopy(checkpoint)
        features, _ = attached(encoder, cache=tmp_path)
        encoder.images = 0
        encoder(pixels(1, 2))
        encoder(pixels(3, 4))
        assert encoder.images == encoded
        features.save()


def test_a_full_disk_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "image_features").touch()  # a file in place of the folder
    tower = Encoder()
    features, lines = attached(tower, cache=tmp_path)
    tower(pixels(1, 2))
    features.save()
    assert names_all(lines[1], tmp_path / "image_features")


def of_all(hidden: Tensor) -> Tensor:
    return hidden - hidden.mean(dim=0)


def not_finite(hidden: Tensor) -> Tensor:
    return hidden / 0


REFUSED = [
    pytest.param(of_all, {}, "depend on the images beside it", id="batch"),
    pytest.param(lambda hidden: hidden.mean(), {}, "cannot be divided by image", id="mean"),
    pytest.param(lambda hidden: [object()], {}, "its output holds a object", id="object"),
    pytest.param(not_finite, {}, "not finite", id="infinite"),
    pytest.param(lambda hidden: None, {"images": 10**6}, "more than resources", id="size"),
]


@pytest.mark.parametrize(("extra", "options", "reason"), REFUSED)
def test_other_towers_keep_their_forward_pass(
    extra: Callable[[Tensor], Any], options: dict[str, Any], reason: str
) -> None:
    tower = Encoder(extra)
    plain = tower(pixels(1, 2)).last_hidden_state
    _, lines = attached(tower, **options)
    for _ in range(2):
        assert torch.equal(tower(pixels(1, 2)).last_hidden_state, plain)
    assert "forward" not in vars(tower)
    (line,) = lines
    assert reason in line


@pytest.mark.parametrize("argument", [{"mask": torch.ones(3, 1)}, {"object": object()}])
def test_calls_that_cannot_be_divided_are_left_alone(argument: dict[str, Any]) -> None:
    tower = Encoder()
    _, lines = attached(tower)
    with pytest.raises(RuntimeError) if "mask" in argument else torch.no_grad():
        tower(pixels(1, 2), **argument)
    assert len(lines) == 1


def test_a_tower_that_is_trained_or_sharded_is_left_alone() -> None:
    lines: list[str] = []
    features = ImageFeatures(2**20, report=lines.append)
    trained, dropout = Encoder().eval(), nn.Dropout().train()
    sharded = Encoder().requires_grad_(False).eval()
    dropping = Encoder().requires_grad_(False).eval()
    dropping.dropout = dropout
    for tower, options in ((trained, {}), (dropping, {}), (sharded, {"sharded": True})):
        features.attach(Model(tower), training=True, **options)
        assert "forward" not in vars(tower)
    reasons = ("2 parameters of the vision tower are trained", "training mode", "sharded")
    assert all(reason in line for reason, line in zip(reasons, lines, strict=True))


def test_a_budget_of_nothing_leaves_the_tower_alone() -> None:
    tower = Encoder()
    _, lines = attached(tower, budget=0)
    assert "forward" not in vars(tower)
    assert not lines


class Layer(nn.Module):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(12))
        self.images = 0

    def forward(self, hidden: Tensor) -> Tensor:
        self.images += len(hidden)
        return hidden * self.scale


class WithProjector(nn.Module):
    """A tower that holds its projector; `early` projects what leaves the first layer."""

    def __init__(self, feeds_layers: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.early, self.merger = nn.Linear(12, 3), nn.Linear(12, 3)
        self.feeds_layers = feeds_layers

    def forward(self, pixels: Tensor) -> BaseModelOutput:
        hidden = self.layers[0](pixels.flatten(1))
        early = self.early(hidden)
        if self.feeds_layers:
            hidden = hidden + early.mean(dim=1, keepdim=True)
        hidden = self.layers[1](hidden)
        return BaseModelOutput(last_hidden_state=hidden, hidden_states=(self.merger(hidden), early))


def with_projector(**options: Any) -> tuple[WithProjector, list[str]]:
    torch.manual_seed(0)
    tower, lines = WithProjector(**options), list[str]()
    tower.layers.requires_grad_(False).eval()
    learnt = {id(p) for name in ("early", "merger") for p in getattr(tower, name).parameters()}
    LayersOfTower(tower, Store(2**20, None), lines.append, "a tower", learnt=learnt)
    return tower, lines


def test_a_projector_inside_the_tower_learns_from_images_that_were_encoded_once() -> None:
    torch.manual_seed(0)
    plain = WithProjector()
    plain.layers.requires_grad_(False)
    tower, lines = with_projector()
    for step in range(3):
        for one in (plain, tower):
            output = one(pixels(1, 2, 1))
            sum(part.square().sum() for part in output.hidden_states).backward()
            torch.optim.SGD(one.merger.parameters(), lr=0.1 * step).step()
        pairs = zip(plain.parameters(), tower.parameters(), strict=True)
        assert all(torch.equal(a, b) and _same(a.grad, b.grad) for a, b in pairs)
    first = 3 + 3 + 1 + 3  # together, alone, for the gradient, to compare
    assert tower.layers[0].images == first
    assert not lines


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other if one is None or other is None else torch.equal(one, other)


def test_a_projector_that_feeds_the_layers_is_left_alone() -> None:
    tower, lines = with_projector(feeds_layers=True)
    tower(pixels(1, 2))
    (line,) = lines
    assert "last layer" in line, "the reason"
    assert "forward" not in vars(tower)
