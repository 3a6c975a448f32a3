"""Atoms: for every index of every tensor dimension, the set of keys that decide whether it survives a cut.

An index is alive when all keys of its atom are alive; the empty set is always alive. Operators make atoms equal, so the
keys live in a union-find with substitution: a reshape of C into (a, b) turns the keys of C into products of a's and b's
keys, which keeps what survives rectangular by construction.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Axis = npt.NDArray[np.int64] | None
"""Atoms along one dimension; None when all are always alive. Shorter than a symbolic dimension: the pattern repeats."""

FROZEN = 0


class Atoms:
    """Union-find over atoms. An atom is a leaf key, a product of other atoms, or FROZEN (the empty set)."""

    def __init__(self) -> None:
        self._parent = [FROZEN]
        self._parts: dict[int, tuple[int, ...]] = {}
        self._products: dict[tuple[int, int], int] = {}
        self._family = [0]
        self._family_parent = [0]

    def __len__(self) -> int:
        return len(self._parent)

    def fresh(self, count: int) -> npt.NDArray[np.int64]:
        """New keys of one family: alternatives along one dimension."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        self._family_parent.append(len(self._family_parent))
        self._family.extend([self._family_parent[-1]] * count)
        return np.arange(first, first + count, dtype=np.int64)

    def find(self, atom: int) -> int:
        parent = self._parent
        while parent[atom] != atom:
            parent[atom] = parent[parent[atom]]
            atom = parent[atom]
        return atom

    def family(self, leaf: int) -> int:
        return self._find_family(self._family[leaf])

    def leaves(self, atom: int) -> tuple[int, ...]:
        """The keys of an atom, outer factors first."""
        root = self.find(atom)
        if root == FROZEN:
            return ()
        if root not in self._parts:
            return (root,)
        return tuple(dict.fromkeys(leaf for part in self._parts[root] for leaf in self.leaves(part)))

    def product(self, outer: int, inner: int) -> int:
        if outer in (FROZEN, inner):
            return inner
        if inner == FROZEN:
            return outer
        found = self._products.get((outer, inner))
        if found is None:
            found = self._products[outer, inner] = self._composite((outer, inner))
        return found

    def freeze(self, axis: Axis) -> None:
        if axis is not None:
            for atom in set(axis.tolist()):
                self._freeze(atom)

    def unify(self, left: Axis, right: Axis) -> None:
        """Make two dimensions survive alike, index by index. Dimensions that cannot be aligned are frozen."""
        if left is None or right is None or len(left) != len(right):
            self.freeze(left)
            self.freeze(right)
        elif left is not right:
            for a, b in dict.fromkeys(zip(left.tolist(), right.tolist(), strict=True)):
                self._unify(a, b)

    def grid(self, outer: npt.NDArray[np.int64], inner: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Atoms of the dimension (outer, inner) flattened in row-major order."""
        rows, columns = outer.tolist(), inner.tolist()
        return np.array([self.product(a, b) for a in rows for b in columns], dtype=np.int64)

    def factor(self, axis: npt.NDArray[np.int64], outer: int, inner: int) -> tuple[Axis, Axis]:
        """Write a dimension as (outer, inner), without a new constraint where it already has that form."""
        if outer == 1:
            return None, axis
        if inner == 1:
            return axis, None
        table = np.array([self.find(atom) for atom in axis.tolist()], dtype=np.int64).reshape(outer, inner)
        if (table == table[:, :1]).all():
            return table[:, 0].copy(), None
        if (table == table[:1]).all():
            return None, table[0].copy()
        return self._known_factors(table) or self._new_factors(axis, outer, inner)

    def leaf_table(self) -> npt.NDArray[np.int64]:
        """(atoms, width) keys of every atom, filled up with FROZEN."""
        rows = [self.leaves(atom) for atom in range(len(self))]
        table = np.zeros((len(rows), max(1, max(map(len, rows)))), dtype=np.int64)
        for number, row in enumerate(rows):
            table[number, : len(row)] = row
        return table

    def _known_factors(self, table: npt.NDArray[np.int64]) -> tuple[Axis, Axis] | None:
        sets = [[frozenset(self.leaves(atom)) for atom in row] for row in table.tolist()]
        if all(len(keys) <= 1 for row in sets for keys in row):
            return None
        rows = [frozenset.intersection(*row) for row in sets]
        columns = [frozenset.intersection(*column) for column in zip(*sets, strict=True)]
        if any(keys != rows[i] | columns[j] for i, row in enumerate(sets) for j, keys in enumerate(row)):
            return None
        shared = frozenset.intersection(*rows) & frozenset.intersection(*columns)
        return self._axis_of(rows), self._axis_of([column - shared for column in columns])

    def _axis_of(self, sets: list[frozenset[int]]) -> Axis:
        if not any(sets):
            return None
        return np.array([self._intern(sorted(keys)) for keys in sets], dtype=np.int64)

    def _intern(self, keys: Iterable[int]) -> int:
        atom = FROZEN
        for key in keys:
            atom = self.product(atom, key)
        return atom

    def _new_factors(self, axis: npt.NDArray[np.int64], outer: int, inner: int) -> tuple[Axis, Axis]:
        rows, columns = self.fresh(outer), self.fresh(inner)
        self.unify(axis, self.grid(rows, columns))
        return rows, columns

    def _composite(self, parts: tuple[int, ...]) -> int:
        self._parent.append(len(self._parent))
        self._family.append(0)
        self._parts[self._parent[-1]] = parts
        return self._parent[-1]

    def _freeze(self, atom: int) -> None:
        for leaf in self.leaves(atom):
            self._parent[leaf] = FROZEN

    def _unify(self, a: int, b: int) -> None:
        a, b = self.find(a), self.find(b)
        if a == b:
            return
        left, right = self.leaves(a), self.leaves(b)
        only_left = [key for key in left if key not in right]
        only_right = [key for key in right if key not in left]
        if len(only_left) == len(only_right):
            for x, y in zip(only_left, only_right, strict=True):
                self._join(x, y)
        elif not only_left or not only_right:
            for key in only_left + only_right:
                self._freeze(key)
        elif len(only_left) == 1:
            self._parts[only_left[0]] = tuple(only_right)
        elif len(only_right) == 1:
            self._parts[only_right[0]] = tuple(only_left)
        else:
            self._join_all(only_left + only_right)

    def _join_all(self, keys: list[int]) -> None:
        for key in keys[1:]:
            self._join(keys[0], key)

    def _join(self, a: int, b: int) -> None:
        """Merge two keys; earlier joins of the same call may have merged, frozen or factored them."""
        a, b = self.find(a), self.find(b)
        if a == b:
            return
        if a in self._parts or b in self._parts or FROZEN in (a, b):
            self._unify(a, b)
            return
        self._parent[b] = a
        self._family_parent[self._find_family(self._family[b])] = self._find_family(self._family[a])

    def _find_family(self, family: int) -> int:
        parent = self._family_parent
        while parent[family] != family:
            parent[family] = parent[parent[family]]
            family = parent[family]
        return family
