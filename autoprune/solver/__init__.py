"""Which level for each group within budgets: a multiple-choice knapsack, as plain arrays.

Source of the formulation: Frantar, Alistarh, "SPDY: Accurate Pruning with Speedup Guarantees" (2022); Shen et al.,
"Structural Pruning via Latency-Saliency Knapsack" (HALP, 2022); Kellerer, Pferschy, Pisinger, "Knapsack Problems"
(2004), chapter 11.

- `Frontier`: one resource, every budget from one pass; exact on a grid.
- `solve`: any number of resources, one set of budgets; exact, or with the gap that is left.
- `solve_scenarios`, `cheapest_at`: the same over alternatives that span groups (a precision, a dropped layer).
"""

from autoprune.solver.frontier import Frontier, cheapest_at
from autoprune.solver.problem import Choice, Problem
from autoprune.solver.solve import solve, solve_scenarios

__all__ = ["Choice", "Frontier", "Problem", "cheapest_at", "solve", "solve_scenarios"]
