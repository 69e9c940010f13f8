"""The identity of cells: a hash of all that the results of a cell depend on."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from explorer.experiment import Experiment

MODEL = ("protocol", "actors", "scenarios")
"""The packages whose code decides how a machine runs."""

SEARCH = ("search", "accesses.py", "experiment.py", "observers.py", "profile.py", "schedule.py", "watch.py")
"""The code of `explorer` that decides which schedules a job runs, and what it says of them."""


@functools.cache
def model_hash() -> str:
    """A hash over the code that decides the answer of a job: 16 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    roots = [resources.files(package) for package in MODEL]
    roots += [resources.files("explorer").joinpath(name) for name in SEARCH]
    for root in roots:
        for name, file in sorted(_python_files(root, root.name), key=lambda pair: pair[0]):
            digest.update(f"{name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _python_files(entry: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    if entry.is_dir():
        for inner in entry.iterdir():
            yield from _python_files(inner, f"{name}/{inner.name}")
    elif name.endswith(".py"):
        yield name, entry


def key_of(experiment: Experiment) -> str:
    """The key of a cell: equal for experiments whose jobs have equal answers; 32 hexadecimal digits.

    It covers the code of slabrace and of the user's files, the kernel, all knobs, the faults and the strategy.
    """
    header = msgspec.structs.replace(experiment.header, seed=0, slabrace=model_hash(), driver="")
    code = [(record.name, record.sha256) for record in header.code]
    header = msgspec.structs.replace(header, patches=(), scenario_code=None, oracles=())
    return hashlib.blake2b(msgspec.msgpack.encode([code, header], order="sorted"), digest_size=16).hexdigest()
