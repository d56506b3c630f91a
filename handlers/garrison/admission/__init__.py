"""May this model be loaded at all? `pack` makes what may be; scanning, vetting and signing follow."""
