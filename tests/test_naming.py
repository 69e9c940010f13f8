"""A repr shows the class and the name of a simulated object, not the whole object graph."""

from __future__ import annotations

from actors.linux.init.machine import Config, Machine
from actors.system.strategy import InTurn
from actors.system.world import World
from scenarios.stage import small_cache


def test_a_repr_is_the_kind_and_the_name() -> None:
    machine = Machine(World(InTurn()), Config(kernel="5.3"), rows=[small_cache("alpha")])
    cache = machine.root_cache("alpha")

    assert repr(machine) == "<Machine>"
    assert repr(machine.world) == "<World>"
    assert repr(cache) == "<KmemCache kmem_cache alpha>"
    assert repr(machine.cpus[1]) == f"<Cpu {machine.cpus[1].label}>"
    for thing in (machine.rcu, *machine.world.flows, *cache.node, machine.stocks, machine.root_cgroup):
        assert len(repr(thing)) < 120
