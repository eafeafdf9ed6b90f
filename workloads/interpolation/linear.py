"""Many small symmetric systems at once.

Libraries factorise one small matrix after another; here the elimination runs once, over all systems together.
"""

from __future__ import annotations

from torch import Tensor


def solve(matrices: Tensor, sides: Tensor) -> Tensor:
    """Solve A x = b for symmetric positive definite A, by elimination without pivots.

    Args:
        matrices: (R, n, n).
        sides: (R, n).

    Returns:
        x, (R, n).
    """
    a = matrices.permute(1, 2, 0).contiguous()
    b = sides.T.contiguous()
    n = len(b)
    for k in range(n):
        pivot = a[k, k].clone()
        a[k, k:] /= pivot
        b[k] /= pivot
        below = a[k + 1 :, k].clone()
        a[k + 1 :, k + 1 :] -= below[:, None] * a[k, None, k + 1 :]
        b[k + 1 :] -= below * b[k]
    for k in range(n - 2, -1, -1):
        b[k] -= (a[k, k + 1 :] * b[k + 1 :]).sum(0)
    return b.T
