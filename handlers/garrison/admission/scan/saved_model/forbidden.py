"""Operators that no model needs to answer a request, and that no setting allows: their names, and what they do.

A scan refuses every operator that is not on the list of `config/tensorflow-ops.yaml`; an operator may add to that list,
but none of these. Names with `*` at the end stand for all that begin so. From the registry of TensorFlow 2.21.
"""

from functools import lru_cache

FORBIDDEN = {
    "writes files": (
        *("WriteFile", "PrintV2", "DumpTensor", "DatasetToTFRecord", "ExperimentalDatasetToTFRecord"),
        *("SaveDataset*", "SnapshotDataset*", "CacheDataset*", "CalibrationStatisticsSaver", "CustomAggregator"),
        *("SummaryWriter", "CreateSummary*", "CloseSummaryWriter", "FlushSummaryWriter", "ImportEvent"),
        *("WriteSummary", "WriteAudioSummary", "WriteGraphSummary", "WriteHistogramSummary", "WriteImageSummary"),
        *("WriteRawProtoSummary", "WriteScalarSummary", "StatsAggregatorSetSummaryWriter", "DistributedSave"),
    ),
    "reads files": (
        *("ReadFile", "MatchingFiles*", "ExperimentalMatchingFilesDataset", "WholeFileReader*", "TextLine*"),
        *("TFRecord*", "FixedLengthRecord*", "LMDB*", "ExperimentalLMDBDataset", "CSVDataset*", "SqlDataset"),
        *("ExperimentalCSVDataset", "ExperimentalSqlDataset", "IdentityReader*", "Reader*", "RecordInput"),
        *("LoadDataset", "ListSnapshotChunksDataset", "SnapshotChunkDataset", "SnapshotNestedDatasetReader"),
        *("ImmutableConst", "LoadAndRemapMatrix", "GenerateVocabRemapping", "FixedUnigramCandidateSampler"),
        *("Skipgram", "DecodeProtoV2", "EncodeProto", "DTensorRestoreV2", "FileSystemSetConfiguration"),
    ),
    "runs code that is not in the graph": (
        *("PyFunc*", "EagerPyFunc", "XlaCustomCall*", "XlaCallModule", "XlaLaunch*", "XlaHostCompute"),
        *("MlirPassthroughOp", "_Xla*", "_TPU*", "TPU*", "StubResourceHandleOp"),
    ),
    "runs a graph that it is given as bytes": (
        *("DatasetFromGraph", "DatasetToGraph*", "DeserializeIterator", "SerializeIterator"),
        *("RewriteDataset", "MultiDeviceIteratorFromStringHandle", "IteratorGetModelProto"),
        *("IteratorFromStringHandle*", "IteratorToStringHandle", "OneShotIterator", "GeneratorDataset"),
    ),
    "sends tensors elsewhere": (
        *("Debug*", "Copy", "CopyHost", "Rpc*", "DeleteRpcFutureResource", "RemoteCall", "Send", "Recv", "_Send"),
        *("_Recv", "_Host*", "Collective*", "Nccl*", "_Nccl*", "DataServiceDataset*", "RegisterDataset*"),
        *("ConfigureDistributedTPU", "_ConfigureDistributedTPU", "WorkerHeartbeat", "XlaSend*", "XlaRecv*"),
        *("InfeedEnqueue*", "OutfeedEnqueue*", "OutfeedDequeue*", "InfeedDequeue*", "ConnectTPUEmbeddingHosts"),
    ),
    "writes to the server's log": ("Print",),
    "stops the server": ("Abort", "SleepOp", "SleepIdentityOp", "SleepDataset", "ExperimentalSleepDataset"),
    "keeps tensors of one request for another": (*("GetSessionHandle*", "GetSessionTensor", "DeleteSessionTensor"),),
}


@lru_cache(maxsize=10_000)
def say_forbidden(operator: str) -> str:
    """Return what a forbidden operator does, nothing for one that is not."""
    return _EXACT.get(operator, "") or next((what for start, what in _STARTS if operator.startswith(start)), "")


_EXACT = {name: what for what, names in FORBIDDEN.items() for name in names if not name.endswith("*")}
_STARTS = [(name[:-1], what) for what, names in FORBIDDEN.items() for name in names if name.endswith("*")]
