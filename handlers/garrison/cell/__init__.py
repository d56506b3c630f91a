"""The cell: what a worker can still do when everything in it is hostile."""
