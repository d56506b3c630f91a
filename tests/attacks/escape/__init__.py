"""A custom handler that is a burglar: what its author wants is not to answer requests.

The attack model. Somebody's model was admitted although its code is hostile: it fooled the vetting, or a library that
it uses did. The attacker writes the whole handler, brings files of their own beside it (a shared object, for one), and
has an accomplice outside who sends requests, reads the answers, listens on the machine and knows process ids and
paths. The code runs as the server's user, which may be root. It is tried at every moment at which a model's code can
run: when it is imported, when it loads, while it answers, in a thread, in a `__del__`.

Each escape is one primitive: a text of Python whose effect ANOTHER process can see. The same text runs in stock
TorchServe, where the effect must be seen (or the test proves nothing), and in a worker's cell, where it must not be
seen, where the text must report that it was really tried and what stopped it, and where the neighbours must answer
all the time as if nothing happened.

    model.py        what an escape is, and the scene it is played in
    effects.py      how an effect is seen from outside
    bystander.py    a process like a neighbour, which every kind of harm is tried on
    elf.py          programs and shared objects, written byte by byte: no compiler is needed
    handlers.py     the escape's text as a stock handler and as a custom one
    files.py ...    the catalogue, by family; `catalogue.py` is all of it
    servers.py      both servers
    trials.py       an escape in each of them

Not here: attacks on time and caches (side channels), wrong answers about the model's own subject, and what a worker
may do by design: use its own time, its memory up to the limit, its own scratch.
"""
