"""Would we notice? `metrics` counts what the gates see; alerts, drift and reports follow."""
