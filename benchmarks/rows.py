"""The rows of the table: what is done, by whom, and what is asked of it."""

from __future__ import annotations

from typing import Final, NamedTuple


class Work(NamedTuple):
    """A function that does a piece of work: whose environment it runs in, its file, and its name."""

    who: str
    file: str
    function: str


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: what is done.
        unit: what one of it is.
        ours: the work by hangar-cloud.
        peer: the same work by another, None where the bar is a time.
        factor: the bar: as many times as fast as the peer (below 1: so much slower at most); 0 where none was set.
        seconds: the bar where there is no peer: at most so long.
        measure: what is measured where it is not seconds, such as bytes; the bar is at most so many.
    """

    name: str
    unit: str
    ours: Work
    peer: Work | None = None
    factor: float = 0
    seconds: float = 0
    measure: str = ""


OURS: Final = "hangar-cloud"
PLAIN: Final = "plain"
"""Ours too, without a repository: what the same client takes to move the same bytes."""
PEERS: Final[dict[str, list[str]]] = {
    "hangar": [
        "hangar==0.5.2",
        "protobuf<3.21",
        "numpy==1.23.5",
        "h5py<3.12",
        "lmdb<1.6",
        "click<8.2",
        "setuptools<81",
    ],
    "deeplake": ["deeplake", "numpy"],
    "lance": ["pylance", "numpy"],
    "icechunk": ["icechunk", "zarr", "numpy"],
    "numpy": ["numpy"],
    # Of the same version as ours, which the extra "bench" brings.
    "torch": ["torch==2.13.0", "numpy"],
    "litdata": ["litdata", "torch==2.13.0", "numpy", "boto3"],
    "streaming": ["mosaicml-streaming", "torch==2.13.0", "numpy", "boto3"],
}
"""What is installed for each peer. Hangar needs Python 3.11 or older."""

_US, _MS = 1e-6, 1e-3


def _ingest(name: str, unit: str, function: str, factor: float, ours: str = "") -> Row:
    """Writing; `ours` is our work where it is not called as the peer's is."""
    mine, peer = Work(OURS, "work_ingest.py", ours or function), Work("hangar", "peer_hangar.py", function)
    return Row(name, unit, mine, peer, factor)


def _read(name: str, function: str, limit: float) -> Row:
    return Row(name, "sample", Work(OURS, "work_read.py", function), seconds=limit)


def _batches(name: str, function: str, peer: Work, factor: float, unit: str = "batch") -> Row:
    return Row(name, unit, Work(OURS, "work_read.py", function), peer, factor)


def _history(name: str, function: str, limit: float, measure: str = "") -> Row:
    return Row(name, "time", Work(OURS, "work_history.py", function), seconds=limit, measure=measure)


def _wire(name: str, unit: str, function: str) -> Row:
    ours, plain = Work(OURS, "work_wire.py", function), Work(PLAIN, "work_wire.py", f"{function}_plain")
    return Row(name, unit, ours, plain, 0.8)


def _load(name: str, function: str, who: str, theirs: str, factor: float = 0) -> Row:
    peer = "work_loaders.py" if who == OURS else f"peer_{who}.py"
    return Row(name, "sample", Work(OURS, "work_loaders.py", function), Work(who, peer, theirs), factor)


ROWS: Final = [
    _ingest("MNIST, one by one, and the commit", "image", "images_one_by_one", 10),
    _ingest("MNIST, by one call, and the commit", "image", "images_one_by_one", 25, "images_at_once"),
    Row(
        "MNIST, by one call, and the commit: Deep Lake",
        "image",
        Work(OURS, "work_ingest.py", "images_at_once"),
        Work("deeplake", "peer_deeplake.py", "images_at_once"),
    ),
    _ingest("50,000 labels", "label", "labels", 3),
    _ingest("50,000 labels, by one call", "label", "labels", 3, "labels_at_once"),
    _ingest("20,000 texts", "text", "texts", 20),
    _ingest("20,000 texts, by one call", "text", "texts", 20, "texts_at_once"),
    _ingest("10,000 x (3, 64, 64) float32", "tensor", "tensors", 5),
    _ingest("10,000 x (3, 64, 64) float32, by one call", "tensor", "tensors", 5, "tensors_at_once"),
    _ingest("durable writes without `with`", "image", "naked", 3),
    Row(
        "10,000 x (3, 64, 64) float32, in order",
        "tensor",
        Work(OURS, "work_read.py", "all_tensors"),
        Work("hangar", "peer_hangar.py", "all_tensors"),
        1.5,
    ),
    _read("one random image, compressed", "random_compressed", 5 * _US),
    _read("one random image, uncompressed", "random_uncompressed", 3 * _US),
    _read("one random label", "random_label", 2.5 * _US),
    _read("one random text", "random_text", 2.5 * _US),
    _read("images in order", "all_values", 2.5 * _US),
    _batches("images in order: one by one", "all_values", Work(OURS, "work_read.py", "random_compressed"), 2, "image"),
    _batches("images in order, by 256: Lance", "all_batches", Work("lance", "peer_lance.py", "scan"), 1, "image"),
    _batches(
        "256 random images, uncompressed: numpy", "batch_uncompressed", Work("numpy", "peer_numpy.py", "batch"), 0.5
    ),
    _batches(
        "256 random images, uncompressed: Lance", "batch_uncompressed", Work("lance", "peer_lance.py", "batch"), 4
    ),
    _batches(
        "256 random images, uncompressed: Deep Lake",
        "batch_uncompressed",
        Work("deeplake", "peer_deeplake.py", "batch"),
        0,
    ),
    _batches(
        "256 random images, compressed: codec", "batch_compressed", Work(OURS, "work_read.py", "codec_alone"), 0.5
    ),
    _batches("256 random images, compressed: Lance", "batch_compressed", Work("lance", "peer_lance.py", "batch"), 4),
    _history("change one of 10^6 and commit", "change_one", 30 * _MS),
    _history("change one of 10^6: new in the store", "new_bytes", 200_000, "bytes"),
    _history("create a branch at 10^6", "create_branch", 5 * _MS),
    _history("open for writing at 10^6", "open_writer", 30 * _MS),
    _history("fresh process to first sample of 10^6", "first_sample", 30 * _MS),
    _history("fresh process to first sample of MNIST", "first_image", 15 * _MS),
    _history("reader of 10^7 rows, 1,000 random reads", "memory_of_ten_million", 300e6, "bytes"),
    _history("import hangar_cloud", "import_library", 0.2),
    _history("hangar --help", "command_help", 0.4),
    _history("diff of 10^6, 100 + 100 scattered", "diff_scattered", 200 * _MS),
    _history("diff of 10^6, 100 + 100 together", "diff_together", 20 * _MS),
    _history("merge of 10^6, 100 + 100 scattered", "merge_scattered", 400 * _MS),
    _history("merge of 10^6, 100 + 100 together", "merge_together", 40 * _MS),
    _wire("491 MB from S3, cold: plain GETs", "column", "column"),
    _wire("push of 491 MB: plain copy", "byte", "push"),
    _wire("clone and fetch_data of 491 MB: plain copy", "byte", "clone"),
    Row(
        "random batches of 256 images from S3, cold",
        "image",
        Work(OURS, "work_wire.py", "random_batches"),
        seconds=50e-6,
    ),
    Row(
        "ten random batches from S3, cold: Lance",
        "image",
        Work(OURS, "work_wire.py", "first_random_batches"),
        Work("lance", "peer_lance.py", "random_batches"),
        1,
    ),
    Row(
        "ten random batches from S3, cold: Icechunk",
        "image",
        Work(OURS, "work_wire.py", "first_random_batches"),
        Work("icechunk", "peer_icechunk.py", "random_batches"),
        1,
    ),
    Row(
        "S3, cold: the first sample",
        "time",
        Work(OURS, "work_wire.py", "first_sample_trips"),
        seconds=6,
        measure="round trips",
    ),
    _load("loader: shuffled epoch, warm: TensorDataset", "warm", "torch", "warm", 0.5),
    _load("loader: shuffled epoch, warm: Lance", "warm", "lance", "warm", 5),
    _load("loader: shuffled epoch, warm: litdata", "warm", "litdata", "warm", 5),
    _load("loader: 100 kB samples, 2 workers: none", "workers_two", OURS, "workers_none", 1),
    _load("loader: cold behind 30 ms, 100 kB: raw GETs", "cold_large", OURS, "raw_large", 0.7),
    _load("loader: cold behind 30 ms, 2 GB of 100 kB: raw GETs", "cold_long", OURS, "raw_long", 0.7),
    _load(
        "loader: cold, 30 ms, 2 GB, server on cores of its own: raw GETs",
        "cold_long_apart",
        OURS,
        "raw_long_apart",
        0.7,
    ),
    _load("loader: cold behind 30 ms, 1 GB in order: raw GETs", "cold_in_order", OURS, "raw_larger"),
    _load("loader: cold behind 30 ms, 1 GB, 2 workers: raw GETs", "cold_workers", OURS, "raw_larger"),
    _load("loader: cold behind 30 ms, 1 GB on one of 2 machines: raw GETs", "cold_machine", OURS, "raw_larger"),
    _load("loader: cold behind 30 ms: litdata", "cold", "litdata", "cold", 1),
    _load("loader: cold behind 30 ms: streaming", "cold", "streaming", "cold", 1),
    Row("loader: go on in 10^6 samples", "time", Work(OURS, "work_loaders.py", "resume"), seconds=1),
]
