"""The head in chunks against all logits at once: loss and gradients, in every dtype and form."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cotbal.errors import CotbalError
from cotbal.loss import token_losses
from cotbal.training.trainers import chunked_loss
from cotbal.training.trainers.chunked_loss import Finish, Tokens, any_head, linear_head
from helpers.errors import raises

FEATURES, WORDS, ROWS = 4, 50, 23
FINISHES = {
    "plain": Finish(),
    "scale": Finish(0.25),
    "cap": Finish(1.0, 3.0),
    "both": Finish(2.0, 5.0),
}
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}


class Problem:
    """Rows, head and tokens with factors far from uniform, some of them zero."""

    def __init__(self, rows: int = ROWS, dtype: torch.dtype = torch.float64, bias: bool = True):
        generator = torch.Generator().manual_seed(3)
        random = partial(torch.randn, generator=generator, dtype=torch.float64)
        self.rows = (3 * random(rows, FEATURES)).to(dtype).requires_grad_()
        self.head = nn.Linear(FEATURES, WORDS, bias, dtype=dtype)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.copy_(random(parameter.shape))
        self.targets = torch.randint(0, WORDS, (rows,), generator=generator)
        self.factors = (random(rows) ** 2).to(torch.promote_types(dtype, torch.float32))
        self.factors[::5] = 0

    def tokens(self, gradients: bool = True) -> Tokens:
        return Tokens(self.targets, self.factors, gradients)

    def by_all_logits(self, finish: Finish) -> tuple[Tensor, Tensor]:
        losses = token_losses(finish(self.head(self.rows)), self.targets)
        return (losses * self.factors).sum(), losses.detach()

    def by_formula(self, finish: Finish) -> tuple[Tensor, Tensor]:
        carrier, losses = linear_head(self.rows, self.head, finish, self.tokens())
        return carrier + (losses * self.factors).sum(), losses

    def by_autograd(self, finish: Finish) -> tuple[Tensor, Tensor]:
        def logits(chunk: Tensor) -> Tensor:
            return finish(self.head(chunk))

        carrier, losses = any_head(self.rows, self.head, logits, self.tokens())
        return carrier + (losses * self.factors).sum(), losses

    def results(self, form: str, finish: Finish) -> list[Tensor]:
        """Loss, losses and gradients; what arrives from later layers is 2, not 1."""
        loss, losses = getattr(self, form)(finish)
        wanted = [self.rows, *self.head.parameters()]
        return [loss.detach(), losses, *torch.autograd.grad(2 * loss, wanted)]


def are_close(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for one, other in zip(actual, expected, strict=True):
        distance = (one.double() - other.double()).norm()
        assert distance <= tolerance * other.double().norm().clamp_min(1e-12)


@pytest.fixture(params=[1, 7, 23, 64], ids="chunks of {}".format)
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(chunked_loss, "CHUNK", request.param)
    return int(request.param)


@pytest.mark.parametrize("finish", FINISHES.values(), ids=FINISHES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("form", ["by_formula", "by_autograd"])
def test_loss_and_gradients_are_those_of_all_logits(
    chunk: int, form: str, bias: bool, finish: Finish
) -> None:
    problem = Problem(bias=bias)
    assert len(problem.tokens().chunks(FEATURES)) == -(-ROWS // chunk)
    expected = problem.results("by_all_logits", finish)
    are_close(problem.results(form, finish), expected, TOLERANCES[torch.float64])


@pytest.mark.parametrize("finish", FINISHES.values(), ids=FINISHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", ["by_formula", "by_autograd"])
def test_rounding_is_that_of_the_dtype(
    chunk: int, form: str, dtype: torch.dtype, finish: Finish
) -> None:
    """Against float64 from the same, already rounded values."""
    problem, exact = Problem(dtype=dtype), Problem()
    exact.rows.data.copy_(problem.rows)
    exact.head.load_state_dict(problem.head.state_dict())
    exact.factors = problem.factors.double()
    results = problem.results(form, finish)
    assert [result.dtype for result in results[2:]] == [dtype] * 3
    are_close(results, exact.results("by_all_logits", finish), TOLERANCES[dtype])


@pytest.mark.parametrize("words", [16, 1000])
def test_sums_of_low_precision_are_kept_in_float32(
    words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many chunks of one row each: in bfloat16 the sum would lose the small ones."""
    monkeypatch.setattr(chunked_loss, "CHUNK", 1)
    monkeypatch.setattr(chunked_loss, "WORDS", words)
    problem = Problem(400, torch.bfloat16)
    exact = Problem(400)
    exact.rows.data.copy_(problem.rows)
    exact.head.load_state_dict(problem.head.state_dict())
    exact.factors = problem.factors.double()
    weight = problem.results("by_formula", Finish())[3]
    are_close([weight], [exact.results("by_all_logits", Finish())[3]], 5e-3)


@pytest.mark.parametrize("form", ["by_formula", "by_autograd"])
def test_autocast_computes_in_its_dtype(form: str) -> None:
    """Also where rows and head are float32; gradients keep the dtype of what they belong to."""
    problem = Problem(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        actual = problem.results(form, Finish())
        expected = problem.results("by_all_logits", Finish())
    assert [result.dtype for result in actual] == [torch.float32] * 5
    are_close(actual, expected, 1e-2)
    assert not torch.equal(actual[3], problem.results(form, Finish())[3])


@pytest.mark.parametrize("form", ["by_formula", "by_autograd"])
def test_no_valid_token_gives_zeros_that_are_connected(form: str) -> None:
    loss, losses, *gradients = Problem(0).results(form, Finish())
    assert loss == 0
    assert losses.shape == (0,)
    assert [gradient.abs().sum() for gradient in gradients] == [0, 0, 0]


@pytest.mark.parametrize("form", ["by_formula", "by_autograd"])
def test_micro_batches_add_up(form: str) -> None:
    problem, whole = Problem(), Problem().results("by_all_logits", Finish())
    total = [torch.zeros_like(result) for result in whole[2:]]
    for part in (slice(0, 9), slice(9, 9), slice(9, ROWS)):
        piece = Problem()
        piece.rows = problem.rows.detach()[part].requires_grad_()
        piece.targets, piece.factors = problem.targets[part], problem.factors[part]
        rows, weight, bias = piece.results(form, Finish())[2:]
        total[0][part] += rows
        total[1] += weight
        total[2] += bias
    are_close(total, whole[2:], 1e-12)


@pytest.mark.parametrize("frozen", ["rows", "weight", "bias"])
def test_nothing_is_computed_for_what_is_frozen(frozen: str) -> None:
    problem = Problem()
    parts = {"rows": problem.rows, **dict(problem.head.named_parameters())}
    expected = dict(zip(parts, problem.results("by_all_logits", Finish())[2:], strict=True))
    parts[frozen].requires_grad_(False)
    problem.by_formula(Finish())[0].backward()
    assert parts[frozen].grad is None
    for name in parts.keys() - {frozen}:
        assert torch.allclose(2 * parts[name].grad, expected[name], rtol=1e-12)


def test_without_gradients_no_sum_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation computes losses alone."""
    problem = Problem()
    sums: list[Any] = []
    allocate = chunked_loss._zeros_like

    def seen(*given: Any) -> Tensor | None:
        sums.append(allocate(*given))
        return sums[-1]

    monkeypatch.setattr(chunked_loss, "_zeros_like", seen)
    with torch.no_grad():
        carrier, losses = linear_head(problem.rows, problem.head, Finish(), problem.tokens(False))
        _, others = any_head(problem.rows, problem.head, problem.head, problem.tokens(False))
    assert sums == [None] * 3
    assert not carrier.requires_grad
    assert torch.allclose(losses, problem.by_all_logits(Finish())[1], rtol=1e-12)
    assert torch.allclose(others, losses, rtol=1e-12)


@pytest.mark.parametrize("form", ["by_formula", "by_autograd"])
def test_a_second_backward_pass_is_an_error(form: str) -> None:
    """Not a gradient of zero."""
    loss = getattr(Problem(), form)(Finish())[0]
    loss.backward(retain_graph=True)
    with raises(CotbalError, "second-backward", "chunked_head=False"):
        loss.backward()


@pytest.mark.parametrize("form", ["by_formula", "by_autograd"])
def test_a_gradient_of_the_gradient_is_an_error(form: str) -> None:
    """Not one that takes the gradient of the head for a constant."""
    problem = Problem()
    loss = getattr(problem, form)(Finish())[0]
    with raises(CotbalError, "second-backward", "create_graph"):
        torch.autograd.grad(loss, problem.rows, create_graph=True)


def test_gradients_can_be_kept_without_a_second_pass() -> None:
    problem = Problem()
    expected = problem.results("by_all_logits", Finish())[2:]
    loss = 2 * problem.by_formula(Finish())[0]
    loss.backward(retain_graph=True)
    are_close([problem.rows.grad, *(p.grad for p in problem.head.parameters())], expected, 1e-12)


@pytest.mark.parametrize(("rows", "features", "sizes"), [(291, 576, [146, 145]), (0, 8, [])])
def test_chunks_are_of_about_equal_size(rows: int, features: int, sizes: list[int]) -> None:
    tokens = Tokens(torch.zeros(rows, dtype=torch.long), torch.zeros(rows), True)
    lengths = [len(tokens.targets[part]) for part in tokens.chunks(features)]
    assert lengths == sizes
    wide = Tokens(torch.zeros(4096, dtype=torch.long), torch.zeros(4096), True)
    assert len(wide.chunks(4096)) == 4
