"""The names for writing scenarios. This module is stable: names are added, never removed.

    from actors.api import Context, kmem_cache_alloc
    from scenarios.api import MACHINE, Stage, scenario

Kernel functions and objects come from `actors.api`, or from their C path below `actors.linux`.
docs/writing-scenarios.md teaches scenarios, docs/your-own.md shows a whole project.
"""

from actors.machine.bodies import Body
from protocol.errors import UsageError
from protocol.formats.slabinfo import PAGE_SIZE, SlabinfoRow
from scenarios.registry import (
    ALLOCATOR,
    CGROUP,
    CPUS,
    MACHINE,
    MEMORY,
    NODES,
    RCU,
    SLABINFO,
    Knob,
    Scenario,
    machine,
    scenario,
)
from scenarios.stage import (
    Sample,
    Stage,
    charge_elsewhere,
    enter,
    fill,
    mkdir,
    rmdir,
    run_in,
    small_cache,
    touch_pages,
    warm_up,
)

__all__ = (
    "ALLOCATOR",
    "CGROUP",
    "CPUS",
    "MACHINE",
    "MEMORY",
    "NODES",
    "PAGE_SIZE",
    "RCU",
    "SLABINFO",
    "Body",
    "Knob",
    "Sample",
    "Scenario",
    "SlabinfoRow",
    "Stage",
    "UsageError",
    "charge_elsewhere",
    "enter",
    "fill",
    "machine",
    "mkdir",
    "rmdir",
    "run_in",
    "scenario",
    "small_cache",
    "touch_pages",
    "warm_up",
)
