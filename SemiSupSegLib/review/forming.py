"""From a map of doubt to pieces that a person can look at one by one.

Everything is decided by positions in mm, so that a volume stored with other axes gives the same
pieces.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from SemiSupSegLib.review.doubt import reaches
from SemiSupSegLib.review.options import RegionOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Offset = tuple[int, int, int]
_ROUNDS = 3
"""How often dust may join dust before what is left is dropped."""
_SAME_MM = 1e-6
"""Positions along a cut that differ by less are one but for rounding."""


def form_pieces(
    doubt: NDArray[np.float32],
    pairs: NDArray[np.integer[Any]],
    index_to_mm: NDArray[np.float64],
    options: RegionOptions,
) -> tuple[NDArray[np.int32], int]:
    """Return the number of each voxel's piece, 0 for none, and how many pieces there are.

    Pieces are connected (26 neighbours) doubtful voxels that hold a seed, divided by the two
    classes in question. Those of one pair that lie close are one piece, dust and what holds little
    of the expected error joins the piece that it touches most, and what is too large is cut across
    its longest direction.

    Args:
        doubt: Probability of being wrong, (D, H, W).
        pairs: A number for the two classes in question, (D, H, W).
        index_to_mm: 3x3, from steps along D, H, W to mm.
        options: Thresholds and sizes.
    """
    import numpy as np

    voxel_mm3 = float(abs(np.linalg.det(index_to_mm)))
    pieces, pair_of = _by_pair(reaches(doubt, options.grow), pairs)
    count = len(pair_of) - 1
    if not count:
        return pieces, 0
    # From here on pieces are joined and dropped by number; voxels are only looked at for contacts.
    touching = _contacts(pieces, count, _neighbours())
    joins = _with_seed(pieces, count, touching, reaches(doubt, options.seed))
    close = _contacts(pieces, count, _offsets(index_to_mm, options.merge_mm))
    joins = _merged(joins, pair_of, close)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1).astype(float)
    sizes[0] = 0
    inside = pieces > 0
    errors = np.bincount(pieces[inside], doubt[inside], minlength=count + 1)
    smallest = options.min_volume_mm3 / voxel_mm3 - 1e-6
    places = _places(pieces, count, index_to_mm)
    joins = _joined_if_small(joins, sizes, touching, smallest, places)
    joins[np.bincount(joins, sizes, minlength=count + 1)[joins] < smallest] = 0
    least = options.min_share * float(errors[joins > 0].sum()) - 1e-6
    joins = _joined_if_small(joins, errors, touching, least, places)
    pieces, count = _renumbered(joins[pieces])
    return _cut(pieces, count, doubt, index_to_mm, options)


def _by_pair(
    wanted: NDArray[np.bool_], pairs: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return connected pieces of one pair each, and the pair of each piece."""
    import numpy as np
    from scipy import ndimage

    pieces = np.zeros(wanted.shape, np.int32)
    numbers = np.where(wanted, pairs + 1, 0)
    pair_of = [-1]
    for pair, box in enumerate(ndimage.find_objects(numbers)):
        if box is None:
            continue
        own, count = ndimage.label(numbers[box] == pair + 1, np.ones((3, 3, 3)))
        mine = own > 0
        pieces[box][mine] = own[mine] + (len(pair_of) - 1)
        pair_of += [pair] * count
    return pieces, np.array(pair_of)


def _with_seed(
    pieces: NDArray[np.int32], count: int, touching: _Contacts, seeds: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """Return 0 for each piece that is not connected with a seed, else its number."""
    import numpy as np

    whole = touching.groups(count)
    has_seed = np.zeros(count + 1, bool)
    has_seed[whole[pieces[seeds]]] = True
    has_seed[0] = False
    return np.where(has_seed[whole], np.arange(count + 1), 0).astype(np.int32)


def _merged(
    joins: NDArray[np.int32], pair_of: NDArray[np.int64], close: _Contacts
) -> NDArray[np.int32]:
    """Join pieces of one pair that are close to each other."""
    import numpy as np

    kept = joins > 0
    same = pair_of[close.first] == pair_of[close.second]
    same &= kept[close.first] & kept[close.second]
    groups = close.only(same).groups(len(joins) - 1)
    return np.where(kept, groups, 0).astype(np.int32)


def _joined_if_small(
    joins: NDArray[np.int32],
    sizes: NDArray[np.floating[Any]] | NDArray[np.signedinteger[Any]],
    touching: _Contacts,
    smallest: float,
    places: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Let each piece below the smallest size join the one that it touches most."""
    import numpy as np

    count = len(joins) - 1
    target: NDArray[np.int32]
    for _ in range(_ROUNDS):
        totals = np.bincount(joins, sizes, minlength=count + 1)
        small = (totals < smallest) & (totals > 0)
        small[0] = False
        met = touching.joined(joins)
        one = np.concatenate([met.first, met.second])
        other = np.concatenate([met.second, met.first])
        times = np.concatenate([met.times, met.times])
        # The last one wins: a large one, of those the one with most contacts, then the largest.
        order = np.lexsort((places[other], totals[other], times, ~small[other]))
        one, other = one[order], other[order]
        mine = small[one] & (~small[other] | (totals[other] > totals[one]))
        if not mine.any():
            break
        target = np.arange(count + 1, dtype=np.int32)
        target[one[mine]] = other[mine]
        # Chains lead to ever larger pieces, so they end.
        while (target[target] != target).any():
            target = target[target]
        joins = np.asarray(target[joins])
    return joins


def _cut(
    pieces: NDArray[np.int32],
    count: int,
    doubt: NDArray[np.float32],
    index_to_mm: NDArray[np.float64],
    options: RegionOptions,
) -> tuple[NDArray[np.int32], int]:
    """Divide what holds too much of the expected error and is large."""
    import numpy as np
    from scipy import ndimage

    voxel_mm3 = float(abs(np.linalg.det(index_to_mm)))
    inside = pieces > 0
    share = np.bincount(pieces[inside], doubt[inside], minlength=count + 1)
    limit = float(share.sum()) * options.max_share
    sizes = np.bincount(pieces.ravel(), minlength=count + 1) * voxel_mm3
    boxes = ndimage.find_objects(pieces)
    result = pieces.copy()
    total = count
    for number in range(1, count + 1):
        if share[number] <= limit or sizes[number] <= options.max_volume_mm3:
            continue
        # As many parts as the error asks for, none far below half of the largest volume.
        parts = min(
            math.ceil(share[number] / limit - 1e-9),
            math.ceil(2 * sizes[number] / max(options.max_volume_mm3, voxel_mm3)),
        )
        box = boxes[number - 1]
        mine = pieces[box] == number
        points = np.argwhere(mine)
        cut = _divided(points @ index_to_mm.T, doubt[box][mine].astype(np.float64), parts)
        whole = np.zeros(mine.shape, np.int32)
        whole[mine] = cut + 1
        whole = _made_whole(whole, index_to_mm)
        made = int(whole.max())
        target = result[box]
        target[whole > 1] = whole[whole > 1] + total - 1
        total += made - 1
    return result, total


def _divided(
    positions: NDArray[np.float64], weights: NDArray[np.float64], parts: int
) -> NDArray[np.int32]:
    """Return a part for each point: cuts across the longest direction, equal sums of weights."""
    import numpy as np

    numbers = np.zeros(len(positions), np.int32)
    if parts < 2 or len(positions) < 2:
        return numbers
    along = _along(positions, weights)
    order = np.argsort(along, kind="stable")
    sums = np.cumsum(weights[order])
    lower_parts = parts // 2
    # Between two different positions only, or the order of the voxels would decide.
    places = np.flatnonzero(np.diff(along[order]) > _SAME_MM)
    if not places.size:
        return numbers
    wanted = sums[-1] * lower_parts / parts
    place = int(places[np.argmin(np.abs(sums[places] - wanted))])
    lower, upper = order[: place + 1], order[place + 1 :]
    numbers[lower] = _divided(positions[lower], weights[lower], lower_parts)
    numbers[upper] = (
        _divided(positions[upper], weights[upper], parts - lower_parts) + numbers[lower].max() + 1
    )
    return numbers


def _along(positions: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each point's place on the longest direction, mm."""
    import numpy as np

    centred = positions - np.average(positions, axis=0, weights=weights)
    spread = (centred * weights[:, None]).T @ centred / weights.sum()
    axis = np.linalg.eigh(spread)[1][:, -1]
    # An axis has no sense of its own; its largest component is to be positive.
    axis = axis * np.sign(axis[np.argmax(np.abs(np.round(axis, 6)))])
    along: NDArray[np.float64] = centred @ axis
    return along


def _made_whole(parts: NDArray[np.int32], index_to_mm: NDArray[np.float64]) -> NDArray[np.int32]:
    """Give pieces that a cut has separated from their part to the part that they touch most."""
    import numpy as np
    from scipy import ndimage

    fragments = np.zeros(parts.shape, np.int32)
    owner = [0]
    boxes = ndimage.find_objects(parts)
    for part, box in enumerate(boxes, start=1):
        own, count = ndimage.label(parts[box] == part, np.ones((3, 3, 3)))
        mine = own > 0
        fragments[box][mine] = own[mine] + (len(owner) - 1)
        owner += [part] * count
    count = len(owner) - 1
    if count == len(boxes):
        return parts
    owners = np.array(owner)
    sizes = np.bincount(fragments.ravel(), minlength=count + 1)
    places = _places(fragments, count, index_to_mm)
    mains = np.zeros(count + 1, bool)
    by_size = np.lexsort((places, sizes, owners))
    # The largest of each part; 0, which is no part, comes first.
    mains[by_size[np.append(np.diff(owners[by_size]) > 0, True)]] = True
    mains[0] = False
    met = _contacts(fragments, count, _neighbours())
    one = np.concatenate([met.first, met.second])
    other = np.concatenate([met.second, met.first])
    order = np.lexsort((places[other], np.concatenate([met.times, met.times])))
    one, other = one[order], other[order]
    joins = owners.copy()
    mine = ~mains[one] & mains[other] & (owners[one] != owners[other])
    joins[one[mine]] = owners[other[mine]]
    return _renumbered(joins[fragments].astype(np.int32))[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Contacts:
    """Pairs of pieces that meet, and how often they do; each pair once."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    times: NDArray[np.int64]

    def only(self, chosen: NDArray[np.bool_]) -> _Contacts:
        """Return some of them."""
        return _Contacts(
            first=self.first[chosen], second=self.second[chosen], times=self.times[chosen]
        )

    def joined(self, joins: NDArray[np.int32]) -> _Contacts:
        """Return the contacts of pieces that have got other numbers; 0 is none."""
        first, second = joins[self.first], joins[self.second]
        chosen = (first != second) & (first > 0) & (second > 0)
        return _counted(first[chosen], second[chosen], self.times[chosen], len(joins))

    def groups(self, count: int) -> NDArray[np.int64]:
        """Return for 0 and each piece the lowest number that it is connected with."""
        import numpy as np
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        links = (np.ones(len(self.first), bool), (self.first, self.second))
        graph = coo_array(links, shape=(count + 1, count + 1))
        _, group = connected_components(graph, directed=False)
        lowest = np.full(int(group.max()) + 1, count + 1)
        np.minimum.at(lowest, group, np.arange(count + 1))
        return np.asarray(lowest[group])


def _places(
    pieces: NDArray[np.int32], count: int, index_to_mm: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return each piece's rank by the position of its centre, to settle what is equal."""
    import numpy as np

    points = np.nonzero(pieces)
    numbers = pieces[points]
    sizes = np.maximum(np.bincount(numbers, minlength=count + 1), 1)
    sums = [np.bincount(numbers, axis, minlength=count + 1) / sizes for axis in points]
    x, y, z = np.round(index_to_mm @ np.array(sums), 3)
    ranks = np.empty(count + 1, np.int64)
    ranks[np.lexsort((x, y, z))] = np.arange(count + 1)
    return ranks


def _contacts(pieces: NDArray[np.int32], count: int, offsets: Sequence[Offset]) -> _Contacts:
    """Return which pieces meet at one of the offsets."""
    import numpy as np

    reach = np.abs(np.array(offsets, np.int64).reshape(-1, 3)).max(axis=0, initial=0)
    padded = np.pad(pieces, [(n, n) for n in reach])
    flat = padded.ravel()
    home = np.flatnonzero(flat)
    own = flat[home]
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    firsts, seconds = [own[:0]], [own[:0]]
    for offset in offsets:
        other = flat[home + int(strides @ offset)]
        meets = (other != own) & (other > 0)
        firsts.append(own[meets])
        seconds.append(other[meets])
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    return _counted(first, second, np.ones(len(first), np.int64), count + 1)


def _counted(
    first: NDArray[np.int32],
    second: NDArray[np.int32],
    times: NDArray[np.int64],
    size: int,
) -> _Contacts:
    import numpy as np
    from scipy.sparse import coo_array

    pairs = (np.minimum(first, second), np.maximum(first, second))
    table = coo_array((times, pairs), shape=(size, size)).tocsr()
    table.sum_duplicates()
    found = table.tocoo()
    return _Contacts(first=found.row, second=found.col, times=found.data)


def _neighbours() -> list[Offset]:
    """Return one of each two opposite steps to the 26 neighbours."""
    steps = itertools.product((-1, 0, 1), (-1, 0, 1), (-1, 0, 1))
    return [step for step in steps if step > (0, 0, 0)]


def _offsets(index_to_mm: NDArray[np.float64], reach_mm: float) -> list[Offset]:
    """Return one of each two opposite steps not longer than `reach_mm`."""
    import numpy as np

    lengths = np.linalg.norm(index_to_mm, axis=0)
    slices, rows, columns = (
        range(-limit, limit + 1)
        for limit in (math.floor(reach_mm / length + 1e-6) for length in lengths)
    )
    steps = itertools.product(slices, rows, columns)
    near = set(_neighbours())
    return [
        (z, y, x)
        for z, y, x in steps
        if (z, y, x) > (0, 0, 0)
        and (z, y, x) not in near
        and float(np.linalg.norm(index_to_mm @ (z, y, x))) <= reach_mm + 1e-6
    ]


def _renumbered(pieces: NDArray[np.int32]) -> tuple[NDArray[np.int32], int]:
    """Return the same pieces numbered 1, 2, ... without gaps."""
    import numpy as np

    present = np.zeros(int(pieces.max(initial=0)) + 1, bool)
    present[pieces.ravel()] = True
    present[0] = False
    numbers = np.cumsum(present).astype(np.int32)
    numbers[~present] = 0
    return numbers[pieces], int(present.sum())
