"""Bulk import of photographs: one process against a loop written by hand, and two processes against one.

    python benchmarks/bulk_import.py [--images 400] [--rounds 5] [--folder DIR]

The JPEG files are cut from the two photographs that scikit-learn brings along, and each is decoded and scaled with
Pillow. All ways are run in each round, one after the other, and medians are compared: what else the machine does
meanwhile troubles all of them. Starting the processes and the commit are part of what is timed. What two processes can
gain on the machine at that time is told by the same decoding without any repository.

Seconds of CPU change less with what other programs do. They are given of this process, and of all that it started. The
former and a worker's even part of the latter are what an idle machine with cores enough would need at most.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from hangar_cloud import Repository
from hangar_cloud.bulk_importer import UDF_Return, run_bulk_import
from hangar_cloud.progress import set_progress

SIZE = (224, 224)
LEAST_OF_LOOP = 0.9
LEAST_OF_ONE = 1.7


def make_photographs(folder: Path, count: int) -> list[Path]:
    """JPEG files of 1280x960 pixels, each another cut of a photograph."""
    generator = np.random.default_rng(0)
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    files = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        left, top = int(generator.integers(0, 140)), int(generator.integers(0, 52))
        cut = photograph.crop((left, top, left + 500, top + 375)).resize((1280, 960))
        files.append(folder / f"{number:05}.jpg")
        cut.save(files[-1], quality=92)
    return files


def decoded(file: str) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.resize(SIZE, Image.Resampling.BICUBIC))


def load(file: str) -> Iterator[UDF_Return]:
    yield UDF_Return("image", Path(file).stem, decoded(file))


def by_hand(repository: Repository, files: list[Path]) -> None:
    checkout = repository.checkout(write=True)
    with checkout["image"] as column:
        for file in files:
            column[file.stem] = decoded(str(file))
    checkout.commit("photographs")
    checkout.close()


def with_processes(count: int) -> Callable[[Repository, list[Path]], None]:
    def run(repository: Repository, files: list[Path]) -> None:
        run_bulk_import(repository, "master", ["image"], load, [{"file": str(file)} for file in files], ncpus=count)

    return run


def decode_only(count: int) -> Callable[[Repository, list[Path]], None]:
    def run(_: Repository, files: list[Path]) -> None:
        program = f"import sys\nimport numpy as np\nfrom PIL import Image\nSIZE = {SIZE}\n"
        program += f"{inspect.getsource(decoded)}\nfor file in sys.argv[1:]: decoded(file)"
        parts = [list(map(str, files[i::count])) for i in range(count)]
        started = [subprocess.Popen([sys.executable, "-c", program, *part]) for part in parts]
        assert [process.wait() for process in started] == [0] * count

    return run


WAYS = {
    "loop by hand": by_hand,
    "1 process": with_processes(1),
    "2 processes": with_processes(2),
    "decoding, 1": decode_only(1),
    "decoding, 2": decode_only(2),
}
WORKERS = {"loop by hand": 1, "1 process": 1, "2 processes": 2}


def timed(way: Callable[[Repository, list[Path]], None], folder: Path, files: list[Path]) -> tuple[float, float, float]:
    """Seconds, and seconds of CPU of this process and of those that it started."""
    repository = Repository(folder, exists=False)
    with contextlib.redirect_stdout(None):
        repository.init("Benchmark", "benchmark@example.org")
    checkout = repository.checkout(write=True)
    checkout.add_ndarray_column("image", shape=(SIZE[1], SIZE[0], 3), dtype=np.uint8)
    checkout.commit("column")
    checkout.close()
    os.sync()  # so that no way pays for what the one before it wrote
    start, before = time.perf_counter(), os.times()
    way(repository, files)
    seconds, after = time.perf_counter() - start, os.times()
    if not way.__qualname__.startswith("decode_only"):
        checkout = repository.checkout()
        assert len(checkout["image"]) == len(files)
        checkout.close()
    shutil.rmtree(folder)
    spent = [now - then for now, then in zip(after, before, strict=True)]
    return seconds, sum(spent[:2]), sum(spent[2:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    options = parser.parse_args()
    set_progress(False)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        files = make_photographs(Path(scratch), options.images)
        for _ in range(options.rounds):
            for name, way in WAYS.items():
                found[name].append(timed(way, Path(scratch, "repository"), files))
    for name, times in found.items():
        seconds, own, started = (median(one) for one in zip(*times, strict=True))
        print(f"{name:<14} {seconds:6.2f} s  {options.images / seconds:6.1f} images/s  ", end="")
        print(f"CPU {own:5.2f} + {started:5.2f} s   ", " ".join(f"{one[0]:.2f}" for one in times))
    loop, one, two, plain, plain_two = ([seconds for seconds, _, _ in times] for times in found.values())
    print(f"speed of 1 process, in that of a loop by hand:  {ratio(loop, one)} (bar {LEAST_OF_LOOP})")
    print(f"speed of 2 processes, in that of 1:             {ratio(one, two)} (bar {LEAST_OF_ONE})")
    paths = [[own + started / count for _, own, started in found[name]] for name, count in WORKERS.items()]
    print(f"the same two by seconds of CPU:  {ratio(paths[0], paths[1])};  {ratio(paths[1], paths[2])}")
    print(f"2 to 1 of decoding alone, without a repository: {ratio(plain, plain_two)}")


def ratio(slow: list[float], fast: list[float]) -> str:
    """Of the medians, and the median of the single rounds'."""
    rounds = [one / other for one, other in zip(slow, fast, strict=True)]
    return f"{median(slow) / median(fast):.2f}, by rounds {median(rounds):.2f}"


if __name__ == "__main__":
    main()
