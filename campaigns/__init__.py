"""The long campaigns: what CI samples for seconds, these do for minutes or hours, and write down.

    fuzz     every check, guided by coverage and by mutation: only a value or a refusal comes out
    soak     good and bad requests through the whole stack: no answer lost or swapped, no memory lost
    flood    bombs with a good key on most connections: the others are still answered

Each is `make campaign-<name>` and writes `campaigns/results/<name>.json`: commit, seed, duration, machine, figures.
A campaign that misses one of its aims writes that down as well, and exits 1.
"""
