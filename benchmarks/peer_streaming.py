"""The same epochs with mosaicml-streaming."""

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

from serving import served, upload
from torch.utils.data import DataLoader


def _without_torchvision():
    """Its image datasets import torchvision, which must be of the very build of torch; none of that is used here."""
    for name, wanted in (
        ("", ()),
        (".datasets", ("VisionDataset",)),
        (".transforms", ()),
        (".transforms.functional", ()),
    ):
        module = sys.modules[f"torchvision{name}"] = ModuleType(f"torchvision{name}")
        module.__spec__ = ModuleSpec(module.__name__, None)
        for each in (*wanted, "to_tensor"):
            setattr(module, each, type(each, (), {}))


_without_torchvision()


def _shards(bench):
    from streaming import MDSWriter

    folder = os.path.join(bench.folder, "shards")
    columns = {"image": "ndarray:uint8:784", "label": "int"}
    with MDSWriter(out=folder, columns=columns, compression="zstd", size_limit=1 << 24) as out:
        for number, image in enumerate(bench.images()):
            out.write({"image": image, "label": number % 10})
    return folder


def _epoch(**where):
    from streaming import StreamingDataset

    dataset = StreamingDataset(**where, shuffle=True, batch_size=256, num_canonical_nodes=1)
    assert sum(len(batch["image"]) for batch in DataLoader(dataset, batch_size=256)) == 60_000


def cold(bench):
    folder = _shards(bench)
    with served() as server:
        upload(server, folder, "shards")
        os.environ.update(AWS_ACCESS_KEY_ID=server["key"], AWS_SECRET_ACCESS_KEY=server["secret"])
        os.environ.update(AWS_DEFAULT_REGION="us-east-1", S3_ENDPOINT_URL=server["slow"])
        with bench.timed(60_000):
            _epoch(remote=f"s3://{server['bucket']}/shards", local=os.path.join(bench.folder, "cache"))
