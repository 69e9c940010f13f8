"""Matching a real kernel's function trace: the search for a schedule of the model that produces it.

scope       the functions that a trace shows, the ones that are compared, and the reasons for the others
cursor      the trace as flows with an order between them; the matched events, and the model's flows for its flows
follower    the strategy that steers a run along the trace
races       the alternative choices of a run that may lead elsewhere
search      run after run, each with another deviation, best first
divergence  where a run leaves the trace
trail       the strategy that repeats the choices of a run, for the log
answer      the result: a schedule, or the divergence of the trace and the model
command     `slabrace match`

docs/match.md says how to take a trace, and how to read the answer.
"""
