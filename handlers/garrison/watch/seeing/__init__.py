"""What people look at: pages of metrics or Prometheus enter, the state of the stack leaves, for `top` and `report`.

What is read here was named by others: models, clients, reasons. It leaves as it came, and who shows it escapes it for
where it is shown. It does not defend against a Prometheus, or a metrics listener, that lies.
"""
