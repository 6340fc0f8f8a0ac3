"""Finite groups as permutations, with their tables of products.

Three of them have 60 elements and differ in how hard they are: Z_60 is commutative, A_4 x Z_5
solvable, A_5 neither (Merrill et al. 2024, section 5).
"""

from functools import cache
from itertools import combinations

import numpy as np

from ssmrl.errors import UsageError, unknown

Permutation = tuple[int, ...]  # i goes to p[i]


def _cycle(points: int, *cycles: tuple[int, ...]) -> Permutation:
    moved = list(range(points))
    for cycle in cycles:
        for i, j in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
            moved[i] = j
    return tuple(moved)


GROUPS: dict[str, tuple[Permutation, ...]] = {
    "Z_2": (_cycle(2, (0, 1)),),
    "Z_60": (_cycle(60, tuple(range(60))),),
    "S_3": (_cycle(3, (0, 1)), _cycle(3, (0, 1, 2))),
    "A_4xZ_5": (
        _cycle(9, (0, 1, 2)),
        _cycle(9, (1, 2, 3)),
        _cycle(9, (4, 5, 6, 7, 8)),
    ),
    "S_4": (_cycle(4, (0, 1)), _cycle(4, (0, 1, 2, 3))),
    "A_5": (_cycle(5, (0, 1, 2)), _cycle(5, (0, 1, 2, 3, 4))),
    "S_5": (_cycle(5, (0, 1)), _cycle(5, (0, 1, 2, 3, 4))),
}
"""Generators of each group."""


@cache
def elements(group: str) -> tuple[Permutation, ...]:
    """All elements in lexicographic order, the identity first.

    Raises:
        UsageError: unknown group.
    """
    if group not in GROUPS:
        raise unknown("group", group, GROUPS)
    generators = GROUPS[group]
    found = {tuple(range(len(generators[0])))}
    new = list(found)
    while new:
        products = {_compose(x, g) for x in new for g in generators}
        new = sorted(products - found)
        found |= products
    return tuple(sorted(found))


@cache
def products(group: str) -> np.ndarray:
    """`(n, n)` int32: the number of x y, which moves i to x[y[i]], at numbers of x and y."""
    known = elements(group)
    number = {x: i for i, x in enumerate(known)}
    table = [[number[_compose(x, y)] for y in known] for x in known]
    return np.array(table, np.int32)


@cache
def shown_elements(group: str, which: str) -> np.ndarray:
    """Numbers, int32, of `all` elements, or of the `transpositions` of a symmetric group.

    Transpositions come as those of (0, 1), (0, 2), ..., (1, 2), ...

    Raises:
        UsageError: unknown group or choice, or a group that is not symmetric.
    """
    known = elements(group)
    if which == "all":
        return np.arange(len(known), dtype=np.int32)
    if which != "transpositions":
        raise unknown("choice of elements", which, ("all", "transpositions"))
    points = len(known[0])
    swaps = [_cycle(points, pair) for pair in combinations(range(points), 2)]
    if not set(swaps) <= set(known):
        raise UsageError(f"{group} has no transpositions: choose S_3, S_4 or S_5")
    return np.array([known.index(swap) for swap in swaps], np.int32)


def _compose(x: Permutation, y: Permutation) -> Permutation:
    return tuple(x[i] for i in y)
