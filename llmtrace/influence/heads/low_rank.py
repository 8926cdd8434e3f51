"""A matrix kept as its two factors: [d_vocab, d_vocab] of a head, in the room of [d_vocab, d_head].

    M = left right        rows, columns and entries on demand; eigenvalues from right left [rank, rank]

The non-zero eigenvalues of left right are those of right left, and its singular values those of R_left R_right^T (QR
of both factors), so nothing of the full size is ever made. Source: Elhage et al. 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from llmtrace.errors import InputError


@dataclass(frozen=True, eq=False)
class LowRank:
    left: Float[Tensor, "row rank"]
    right: Float[Tensor, "rank column"]
    name: str = "matrix"

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[1]

    def rows(self, indices: Int[Tensor, " n"]) -> Float[Tensor, "n column"]:
        """Some rows in full: for an OV circuit, what the head writes when it reads these tokens."""
        return self.left[indices] @ self.right

    def columns(self, indices: Int[Tensor, " n"]) -> Float[Tensor, "row n"]:
        return self.left @ self.right[:, indices]

    def entries(self, rows: Int[Tensor, " n"], columns: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """M[rows[i], columns[i]], one number for each pair."""
        return (self.left[rows] * self.right[:, columns].T).sum(-1)

    def eigenvalues(self) -> Complex[Tensor, " rank"]:
        """Those of the full matrix that may differ from zero, largest magnitude first. Cost: one [rank, rank] eig."""
        if self.shape[0] != self.shape[1]:
            raise InputError(f"Expected a square matrix for eigenvalues, got {list(self.shape)}; use singular_values.")
        found = torch.linalg.eigvals(_wide(self.right) @ _wide(self.left))
        return found[found.abs().argsort(descending=True)]

    def singular_values(self) -> Float[Tensor, " rank"]:
        return torch.linalg.svdvals(self._core())

    def norm(self) -> Float[Tensor, ""]:
        """Frobenius norm."""
        return self._core().norm()

    def _core(self) -> Float[Tensor, "rank rank2"]:
        """R_left R_right^T: the same singular values in the smallest matrix that has them."""
        left, right = (torch.linalg.qr(_wide(factor)).R for factor in (self.left, self.right.T))
        return left @ right.T

    def __repr__(self) -> str:
        return f"LowRank({self.name}: {self.shape[0]} x {self.shape[1]} of rank {self.left.shape[1]} at most)"


def _wide(x: Tensor) -> Tensor:
    """Linear algebra in float64, on the CPU: the matrices are small and half precision has no eig."""
    return x.detach().double().cpu()
