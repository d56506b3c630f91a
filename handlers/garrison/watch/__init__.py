"""Would we notice? Workers count (`metrics`), the launcher reads and adds up (`counts`, `workers`), Prometheus asks."""
