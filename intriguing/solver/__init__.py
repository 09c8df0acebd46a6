"""Box-constrained L-BFGS, batched; knows nothing of images or networks."""

from intriguing.solver.box_lbfgs import BatchedLBFGSB, Solution, Status, minimize_box

__all__ = ["BatchedLBFGSB", "Solution", "Status", "minimize_box"]
