"""Stage 1 of the base of `pocket`: what every patch of the image has to say."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from cotbal.benchmarks.pocket.drawings import SIDE
from pocket_lessons import GROUNDS, LABELS, Shown

PATCH = 8
GRID = SIDE // PATCH
# Pixels of a patch that a thing must cover before the patch has to name it.
COVERED = 6


class PatchLabels(nn.Module):
    """The tower with a throw-away head: a patch's label, the box of what covers it most, and all
    that touches it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tower = CLIPVisionModel(vision_config())
        width = self.tower.config.hidden_size
        self.sizes = (len(LABELS) + len(GROUNDS), 4, len(LABELS))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(self.sizes)))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Pixels [batch, 3, 48, 48] -> label logits, box logits, touch logits, each [batch, 36, its
        size].
        """
        patches = self.tower(pixels).last_hidden_state[:, 1:]
        return self.head(patches).split(self.sizes, dim=-1)


def vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=384,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=64,
    )


def patch_targets(shown: Shown) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label [36], box [36, 4] as shares of the side, and touched labels [36, labels] of every
    patch.
    """
    label = np.full(GRID * GRID, len(LABELS) + GROUNDS.index(shown.ground))
    boxes = np.zeros((GRID * GRID, 4), np.float32)
    touched = np.zeros((GRID * GRID, len(LABELS)), np.float32)
    most = np.full(GRID * GRID, COVERED - 0.1)
    starts = np.arange(GRID) * PATCH
    for name, box in shown.items:
        across = np.clip(np.minimum(box[2], starts + PATCH) - np.maximum(box[0], starts), 0, PATCH)
        down = np.clip(np.minimum(box[3], starts + PATCH) - np.maximum(box[1], starts), 0, PATCH)
        area = np.outer(down, across).reshape(-1)
        touched[area >= COVERED, LABELS.index(name)] = 1
        wins = area > most
        most[wins], label[wins] = area[wins], LABELS.index(name)
        boxes[wins] = np.array(box, np.float32) / SIDE
    return label, boxes, touched


def patch_loss(
    outputs: tuple[Tensor, ...], label: Tensor, boxes: Tensor, touched: Tensor
) -> Tensor:
    """Cross-entropy of the label, distance of the box where there is one, and binary loss of what
    touches.
    """
    named = nn.functional.cross_entropy(outputs[0].flatten(0, 1), label.flatten())
    covered = label < len(LABELS)
    placed = (torch.sigmoid(outputs[1]) - boxes).abs()[covered].mean()
    touches = nn.functional.binary_cross_entropy_with_logits(outputs[2], touched)
    return named + 5 * placed + 20 * touches


def pixels(images: list[Image.Image]) -> Tensor:
    """RGB images -> [batch, 3, 48, 48] in -1..1, as the processor of the base does it."""
    stacked = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1
