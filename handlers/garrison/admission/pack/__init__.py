"""Pack a model: an author's files and a contract enter, a directory or archive that may be admitted leaves.

`packing` wraps torch-model-archiver; `sources` says which files go in. `convert` turns an archive of stock TorchServe's
into such files, with `drafts` of a contract, `labels`, and `shapes` to count classes by.
"""

from garrison.admission.pack.packing import STOCK_HANDLERS, PackOrder, pack_model, write_archive

__all__ = ["STOCK_HANDLERS", "PackOrder", "pack_model", "write_archive"]
