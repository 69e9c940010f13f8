"""One scenario on one kernel, with its knobs and patches: what can be run, any number of times."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from actors.kernel.fixes import FIXES
from actors.kernel.kernel_fn import PROFILES
from actors.kernel.page_alloc import FAULTS
from actors.kernel.patching import Patch, find_patches
from actors.system.stepper import run_stepper
from actors.system.trio_driver import run_trio
from actors.system.world import World
from protocol.errors import InternalError, UsageError
from scenarios import find_scenario
from scenarios.stage import Stage

if TYPE_CHECKING:
    from actors.system.strategy import Strategy
    from scenarios.registry import Scenario
