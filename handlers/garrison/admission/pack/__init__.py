"""Pack a model: an author's files and a contract enter, a directory or archive that may be admitted leaves.

`packing` wraps torch-model-archiver, `saved_model` copies a SavedModel; `sources` says which files go in, `delivery`
examines and publishes what comes out. `convert` turns an archive of stock TorchServe's
into such files, with `drafts` of a contract, `labels`, and `shapes` to count classes by.
"""

from garrison.admission.pack.delivery import Delivery, write_archive
from garrison.admission.pack.packing import STOCK_HANDLERS, PackOrder, pack_model
from garrison.admission.pack.saved_model import SavedModelOrder, pack_saved_model

__all__ = [
    "STOCK_HANDLERS",
    "Delivery",
    "PackOrder",
    "SavedModelOrder",
    "pack_model",
    "pack_saved_model",
    "write_archive",
]
