"""Measure Garrison next to what people would run without it, on one machine, in one run.

    workloads     what is asked: a model, its contract, the bodies that are sent
    systems       who answers: `garrison`, `stock`, `litserve_system`, `in_process`, each a process tree of its own
    load          who asks: wrk, one thread, and what it saw
    usage         what the answering cost: processor time by role, and resident memory
    run           the rounds, alternating between the systems, and the medians over the rounds
    report        `bench/results.json`, `docs/benchmarks.md` and its plot

Everything is made at run time in one temporary directory: models (random weights), pictures (from scikit-learn's
wheel), keys. `python -m bench` is the command line, `make bench` the usual way to it.
"""
