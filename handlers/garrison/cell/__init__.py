"""What could it still do? A worker's process is closed before anything of a model is read in it, and watched after."""
