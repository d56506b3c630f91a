"""Keep what runs in a worker inside it: a process enters, a process that can reach very little goes on.

`landlock` takes away the file system and the network, `server` closes the JVM in. A cell is closed once and never
opened again: every step here goes one way, holds for whatever the process starts later, and is taken before one byte
that somebody else supplied is looked at. What the kernel cannot give is a refusal to start.
"""
