"""Matching a real kernel's function trace: the search for a schedule of the model that produces it.

    scope     which functions a trace shows, which of them are compared, and why not the others
    cursor    the trace as flows with an order between them; what has been matched, which flow of the model is which
    follower  the strategy that steers a run along the trace
    races     which other choices of a run may lead elsewhere
    search    run after run, each with another deviation, best first
    parting   where a run left the trace, in words
    trail     the strategy that makes the choices of a run again, for the log
    answer    what it came to: a schedule, or where the trace and the model part
    command   `slabrace match`

docs/match.md says how to take a trace, and how to read the answer.
"""
