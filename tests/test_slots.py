"""The slots of lanes, which order the choices, and their bits, which keep the masks small."""

from __future__ import annotations

import random

from actors.system.actor import Actor
from actors.system.world import World
from explorer.search.strategies.simple import RoundRobin
from tests.helpers import make_reader, make_world


def readers(world: World, count: int) -> list[Actor]:
    """Actors that have had mail once, in this order, and so have the slots of this order."""
    made = [make_reader(world, f"reader {number}")[0] for number in range(count)]
    for actor in made:
        actor.post("first")
        world.take_mail(actor)
    return made


def test_masks_stay_small_however_many_actors_have_had_mail() -> None:
    world, _ = make_world()
    actors = readers(world, 1000)
    for actor in actors[-3:]:
        actor.post("again")

    assert world.mask.bit_length() <= 3
    assert world.enabled_lanes() == tuple(actors[-3:])


def test_the_order_of_choices_is_that_of_the_first_mail_whatever_the_bits() -> None:
    world, _ = make_world()
    actors = readers(world, 5)
    draw = random.Random(0)
    waiting: set[Actor] = set()
    sets: dict[tuple[Actor, ...], object] = {}
    for _ in range(3000):
        actor = draw.choice(actors)
        if actor in waiting and draw.random() < 0.8:
            world.take_mail(actor)
            if not actor.mailbox:
                waiting.discard(actor)
        else:
            actor.post("again")
            waiting.add(actor)
        expected = tuple(one for one in actors if one in waiting)
        if expected:
            enabled = world.enabled_lanes()
            assert enabled == expected
            assert sets.setdefault(expected, enabled) is enabled, "the log would define the set again"

    assert len(sets) == 31, "all sets of five lanes have come up"


def test_the_sets_of_retired_actors_are_dropped() -> None:
    world, _ = make_world()
    for number in range(1000):
        actor, _ = make_reader(world, f"reader {number}")
        actor.post("mail")
        world.enabled_lanes()
        world.take_mail(actor)
        actor.retire()

    assert len(world._sets) < 200
    assert len(world._lanes) == 1, "the next actor has the slot of the one that ended"


def test_an_actor_that_retires_with_mail_gives_its_bit_back() -> None:
    world, _ = make_world(RoundRobin(0))
    first, second = make_reader(world, "first")[0], make_reader(world, "second")[0]
    first.post("lost")
    first.retire()
    second.post("mail")

    assert (world.mask, world.enabled_lanes()) == (1, (second,))
    first.post("dropped")
    assert world.enabled_lanes() == (second,)
