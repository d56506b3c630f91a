"""Keep what runs in a worker inside it: a plan and a task enter, a process that can reach very little runs.

A worker is two processes. The supervisor stays outside and can be trusted; its child is closed in before one byte that
a model supplied is looked at, and runs the model's code:

    plan         what one worker's cell is made of: settings, reach, limits
    supervisor   the parent: forks the child, answers its calls, passes on its output, watches it, ends it
      door       the socket that the server connects to, once
      output     the relay of what the child prints
      vitals     its threads, memory and files; scratch: its only directory that can be written
      status     what the launcher is told
    inside       the child: closes the cell, step by step
      limits     privileges and resources given up
      landlock   which files; reach: which ones a worker gets
      seccomp    which system calls: filters and notifications; calls: what becomes of each; syscalls: their lists
      posture    all of it verified by trying; trials: each attempt

`settings` is what an operator may change, `probe` closes a throw-away cell to see what this machine can give, and
`server` with `server_calls` closes in the JVM, which starts all of them. A cell is closed once and never opened again:
every step goes one way and holds for whatever the process starts later. What the kernel cannot give is a refusal to
start.
"""
