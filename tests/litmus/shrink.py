"""Shrink a program on which a search is wrong to a smaller one with the same error."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from tests.litmus.language import Body, Program


def shrink(program: Program, is_wrong: Callable[[Program], bool]) -> Program:
    """Remove parts of *program* greedily: each time take the first smaller program that *is_wrong*."""
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for smaller in smaller_programs(program):
            if is_wrong(smaller):
                program, is_smaller = smaller, True
                break
    return program


def smaller_programs(program: Program) -> Iterator[Program]:
    """The program without a task, without a statement, with a section replaced by its body, or with fewer CPUs."""
    flows, works = program.flows, program.works
    if len(flows) > 1:
        for number in range(len(flows)):
            yield attrs.evolve(program, flows=(*flows[:number], *flows[number + 1 :]))
    for number, (cpu, body) in enumerate(flows):
        for smaller in smaller_bodies(body):
            yield attrs.evolve(program, flows=(*flows[:number], (cpu, smaller), *flows[number + 1 :]))
    for number, body in enumerate(works):
        for smaller in smaller_bodies(body):
            yield attrs.evolve(program, works=(*works[:number], smaller, *works[number + 1 :]))
    if works and not any(
        statement.at == len(works) - 1 for statement in program.statements() if statement.op == "queue"
    ):
        yield attrs.evolve(program, works=works[:-1])
    used = [cpu for cpu, _ in flows]
    used += [statement.at for statement in program.statements() if statement.op in {"ipi", "ipi_wait", "migrate"}]
    if program.cpus > max(used) + 1:
        yield attrs.evolve(program, cpus=max(used) + 1)


def smaller_bodies(body: Body) -> Iterator[Body]:
    """The body with one part removed."""
    for number, statement in enumerate(body):
        before, after = body[:number], body[number + 1 :]
        yield (*before, *after)
        if statement.body and statement.op not in {"call_rcu", "ipi", "ipi_wait"}:
            yield (*before, *statement.body, *after)
        for smaller in smaller_bodies(statement.body):
            yield (*before, attrs.evolve(statement, body=smaller), *after)
