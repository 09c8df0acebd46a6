"""A PyTorch network that counts what it is asked per image, and keeps the smallest success."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn


class Spent(Exception):
    """Every image has had its largest budget."""


class Tracked(nn.Module):
    """Logits of images near those that are attacked, which are known by the nearest of them.

    A peer is credited with the smallest perturbation that it ever tried and that reached the goal,
    whether it returns it or not, after so many evaluations: an evaluation is a forward and a
    backward pass, two forward passes, or two backward passes of an image. Images are clipped to the
    box before they are asked about.
    """

    def __init__(self, module: nn.Module, images, wanted, targeted: bool, marks: Sequence[int]):
        """Images (num, c, h, w) float32 and `wanted` labels (num,): to reach, or to leave.

        `marks` are numbers of evaluations, ascending; past the last one `Spent` is raised.
        """
        super().__init__()
        self._module, self._targeted, self._marks = module, targeted, tuple(marks)
        self._images, self._wanted = images.flatten(1), wanted
        self.passes = torch.zeros(len(images), dtype=torch.long)
        self.norms = torch.full((len(self._marks), len(images)), np.inf)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (batch, classes)."""
        if (self.passes >= 2 * self._marks[-1]).all():
            raise Spent
        images = images.clamp(0, 1)
        rows = self._rows(images.detach().flatten(1))
        self._count(rows)
        logits = self._module(images)
        self._keep(images.detach().flatten(1), logits.detach(), rows)
        if logits.requires_grad:
            logits.register_hook(lambda grad: self._count(rows))
        return logits

    def _rows(self, images: torch.Tensor) -> torch.Tensor:
        """The attacked image that each is nearest to, whatever order an attack asks in."""
        squared = (self._images**2).sum(1) - 2 * images @ self._images.T
        return squared.argmin(dim=1)

    def _count(self, rows: torch.Tensor) -> None:
        self.passes.index_add_(0, rows, torch.ones_like(rows))

    def _keep(self, images, logits, rows) -> None:
        answers, wanted = logits.argmax(1), self._wanted[rows]
        reached = (answers == wanted) if self._targeted else (answers != wanted)
        norms = (images.double() - self._images[rows].double()).norm(dim=1).float()
        for mark, best in zip(self._marks, self.norms, strict=True):
            good = reached & (self.passes[rows] <= 2 * mark)
            best.scatter_reduce_(0, rows[good], norms[good], "amin")
