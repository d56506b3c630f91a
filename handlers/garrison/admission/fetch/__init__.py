"""Bring a packed model here from a bucket or a web server: an address enters, private files leave, or a refusal.

What is fetched is one archive (`s3://models/digits.mar`, `gs://...`, `https://...`) or, from a bucket, a packed model's
directory (`s3://models/digits/`). The order is always the same:

1. the address is read and held against the operator's allow-list (`address`);
2. the object's version is pinned, and its size known and within the limits, before a byte is downloaded (`source`,
   with one module per kind: `s3`, `gs`, `https`);
3. the bytes go into a private `.part` file that an interrupted run continues, and get their name when all are there
   (`transfer`).

What was fetched is not trusted by that: whoever may write to the bucket wrote it. Admission decides, as for any model.
"""

from garrison.admission.fetch.model import Fetched, FetchedObject, fetch_model
from garrison.admission.fetch.transfer import Pace

__all__ = ["Fetched", "FetchedObject", "Pace", "fetch_model"]
