# SPDX-License-Identifier: BSD-2-Clause
"""What clusters cost: cells that are evaluated together when something that they use changes."""

from dataclasses import dataclass

__all__ = ["ClusterCost"]


@dataclass(frozen=True, kw_only=True)
class ClusterCost:
    """Estimates what clusters cost in a cycle, on average.

    Attributes
    ----------
    changes : float
        How often a value changes: a share of all cycles.
    overhead : float
        Cost, in operations, of evaluating a cluster at all.
    limit : float
        Cost above which nothing more is put into a cluster.
    """

    changes: float
    overhead: float
    limit: float

    def expected(self, inputs: int, cost: float) -> float:
        """Return what a cluster with so many inputs and operations costs."""
        return (1 - (1 - self.changes) ** inputs) * (cost + self.overhead)

    def saved(self, now: tuple[int, float], both: tuple[int, float], alone: float) -> float:
        """Return what is saved if a cluster grows.

        Parameters
        ----------
        now, both : tuple of int and float
            Inputs and operations before and after.
        alone : float
            What costs that which is added, on its own.
        """
        if both[1] > self.limit:
            return 0
        return self.expected(*now) + alone - self.expected(*both)
