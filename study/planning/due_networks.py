"""The networks of the sweep and confirm stages that can be trained now."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from study.planning.cells import Network
from study.results.schema import Stage


class DueNetworks:
    """Networks by stage, group and seed, in the order in which they became due."""

    def __init__(self) -> None:
        self._networks: dict[str, Network] = {}  # by id
        self._ids: dict[Stage, dict[str, dict[int, dict[str, None]]]] = {}
        self._count: Counter[Stage] = Counter()

    def count(self, stages: Iterable[Stage]) -> int:
        """Number of networks of some stages."""
        return sum(self._count[stage] for stage in stages)

    def add(self, networks: Iterable[Network]) -> None:
        """Add networks that are not in it."""
        for network in networks:
            groups = self._ids.setdefault(network.stage, {})
            seeds = groups.setdefault(network.cell.group_id, {})
            seeds.setdefault(network.seed, {})[network.network_id] = None
            self._networks[network.network_id] = network
            self._count[network.stage] += 1

    def take(self, stage: Stage, size: int) -> list[Network]:
        """Remove up to `size` networks of the first group; those with the same seed together."""
        groups = self._ids.get(stage, {})
        if not groups:
            return []
        seeds = next(iter(groups.values()))
        ids = itertools.chain.from_iterable(seeds[seed] for seed in sorted(seeds))
        return self._remove(list(itertools.islice(ids, size)))

    def take_all(self, ids: Sequence[str]) -> list[Network]:
        """Remove the networks with these ids if all of them are due; otherwise none."""
        return self._remove(ids) if all(i in self._networks for i in ids) else []

    def _remove(self, ids: Sequence[str]) -> list[Network]:
        networks = [self._networks.pop(i) for i in ids]
        for network in networks:
            groups = self._ids[network.stage]
            seeds = groups[network.cell.group_id]
            del seeds[network.seed][network.network_id]
            if not seeds[network.seed]:
                del seeds[network.seed]
            if not seeds:
                del groups[network.cell.group_id]
            self._count[network.stage] -= 1
        return networks
