"""drop_caches from 6.12 on: mm/vmscan.c goes round all nodes while a round frees enough."""

from __future__ import annotations

import pytest

from actors.api import Context
from actors.linux.mm import vmscan
from tests.today.lone_task import alone


@pytest.mark.parametrize("kernel", ["6.12", "7.2"])
@pytest.mark.parametrize("freed", [(1,), (2, 3), (5, 4, 7), (9, 8, 8, 15)])
def test_a_round_must_free_twice_as_many_objects_as_the_one_before(
    kernel: str, freed: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """2, 4, 8, 16 objects, on all nodes together. So it ends, whatever comes meanwhile."""
    rounds: list[int] = []

    async def drop_slab_node(_ctx: Context, nid: int) -> int:
        if nid:
            return 1
        rounds.append(freed[len(rounds)])
        return rounds[-1] - 1

    async def body(ctx: Context) -> None:
        monkeypatch.setattr(vmscan, "drop_slab_node", drop_slab_node)
        await vmscan.drop_slab(ctx)
        monkeypatch.undo()

    alone(body, kernel=kernel, cpus=2, nodes=2)

    assert tuple(rounds) == freed
