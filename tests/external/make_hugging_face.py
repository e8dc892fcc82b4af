"""Makes the folder `hugging_face` beside this file, as Hugging Face's own library writes datasets.

    pip install datasets==5.2.0 pillow soundfile; python -m tests.external.make_hugging_face

What it makes is kept, since the library brings pandas along, which every process of ours that writes would import.
"""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
from PIL import Image

from tests.external.conftest import picture

FOLDER: Final = Path(__file__).with_name("hugging_face")


def make(folder: Path) -> None:
    """A dataset saved to disk with two splits, and one as a Parquet file."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets as hub

    hub.disable_progress_bars()
    sound = io.BytesIO()
    soundfile.write(sound, np.arange(40, dtype=np.int16), 8000, format="WAV")
    features = hub.Features(
        {
            "image": hub.Image(),
            "label": hub.ClassLabel(names=["cat", "dog"]),
            "grid": hub.Array2D((2, 3), "float32"),
            "sound": hub.Value("binary"),
            "text": hub.Value("string"),
        }
    )
    rows = [
        {
            "image": Image.fromarray(picture(n, (4 + n, 5, 3))),
            "label": n % 2 if n else -1,
            "grid": np.full((2, 3), n, np.float32),
            "sound": sound.getvalue(),
            "text": f"text {n}",
        }
        for n in range(3)
    ]
    made = hub.Dataset.from_list(rows, features=features)
    shutil.rmtree(folder, ignore_errors=True)
    hub.DatasetDict({"train": made, "test": made.select([1])}).save_to_disk(str(folder / "saved"))
    made.to_parquet(str(folder / "made.parquet"))


if __name__ == "__main__":
    make(FOLDER)
