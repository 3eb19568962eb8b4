"""Files made to break a reader, each with a pattern of the error message it must cause."""

from __future__ import annotations

import io
import pickle
import zipfile
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import torch

from obdbench.datasets.arrays import MAX_BYTES

N = 400
EXECUTED: list[str] = []


def execute(*_: object) -> None:
    """The function that a hostile pickle calls."""
    EXECUTED.append("executed")


class Exploit:
    """Unpickles into a call."""

    def __reduce__(self):
        return execute, ()


def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(N, 11)).astype(np.float32),
        "actions": rng.uniform(-1, 1, size=(N, 3)).astype(np.float32),
        "rewards": rng.normal(size=N).astype(np.float32),
        "terminals": rng.random(N) < 0.02,
        "timeouts": np.arange(N) % 97 == 96,
    }


def write_hdf5(path: Path, arrays: dict, **options) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, **options)
    return path


def write_npz(path: Path, arrays: dict) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def add_layers(state: dict, prefix: str, sizes: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        state[f"{prefix}.{2 * i}.weight"] = torch.randn(fan_out, fan_in, generator=generator)
        state[f"{prefix}.{2 * i}.bias"] = torch.zeros(fan_out)


def valid_checkpoint() -> dict:
    actor: dict = {}
    add_layers(actor, "base_network", [11, 8, 8, 8, 6])
    actor["log_std_multiplier.constant"] = torch.tensor(1.0)
    actor["log_std_offset.constant"] = torch.tensor(-1.0)
    content: dict = {"actor": actor}
    for name in ("critic1", "critic2"):
        content[name] = {}
        add_layers(content[name], "network", [14, 8, 8, 1])
    return content


def write_valid_file(folder: Path, kind: str) -> Path:
    path = folder / f"hopper.{kind}"
    if kind == "pt":
        torch.save(valid_checkpoint(), path)
        return path
    return (write_hdf5 if kind == "hdf5" else write_npz)(path, columns())


# -- each case writes a file into a folder and returns its path -----------------------------------


def truncated(kind: str):
    def make(folder: Path) -> Path:
        path = write_valid_file(folder, kind)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    return make


def empty(kind: str):
    def make(folder: Path) -> Path:
        path = folder / f"hopper.{kind}"
        path.write_bytes(b"")
        return path

    return make


def web_page(kind: str):
    def make(folder: Path) -> Path:
        path = folder / f"hopper.{kind}"
        path.write_text("<html><body>404 not found</body></html>")
        return path

    return make


def changed(kind: str, **replace):
    """A well-formed file whose arrays are wrong; ``None`` leaves one out."""

    def make(folder: Path) -> Path:
        arrays = {k: v for k, v in {**columns(), **replace}.items() if v is not None}
        writer = write_hdf5 if kind == "hdf5" else write_npz
        return writer(folder / f"hopper.{kind}", arrays)

    return make


def with_nan() -> np.ndarray:
    observations = columns()["observations"]
    observations[7, 3] = np.nan
    return observations


def hdf5_with(build):
    def make(folder: Path) -> Path:
        arrays = columns()
        del arrays["observations"]
        path = write_hdf5(folder / "hopper.hdf5", arrays)
        with h5py.File(path, "a") as file:
            build(file, folder)
        return path

    return make


def hdf5_bomb(file, folder):
    file.create_dataset("observations", shape=(10**10, 11), dtype="f4", chunks=(1000, 11))


def hdf5_giant_chunk(file, folder):
    file.create_dataset(
        "observations", shape=(N, 11), maxshape=(None, 11), dtype="f4", chunks=(10**7, 11)
    )


def hdf5_external_link(file, folder):
    write_hdf5(folder / "other.hdf5", {"secret": columns()["observations"]})
    file["observations"] = h5py.ExternalLink("other.hdf5", "/secret")


def hdf5_soft_link(file, folder):
    file["observations"] = h5py.SoftLink("/observations")


def hdf5_external_storage(file, folder):
    (folder / "raw").write_bytes(columns()["observations"].tobytes())
    file.create_dataset(
        "observations", shape=(N, 11), dtype="f4", external=[(str(folder / "raw"), 0, N * 44)]
    )


def hdf5_virtual(file, folder):
    write_hdf5(folder / "other.hdf5", {"secret": columns()["observations"]})
    layout = h5py.VirtualLayout(shape=(N, 11), dtype="f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.hdf5"), "secret", shape=(N, 11))
    file.create_virtual_dataset("observations", layout)


def hdf5_group(file, folder):
    file.create_group("observations")


def hdf5_text(file, folder):
    file.create_dataset("observations", data=["a"] * N)


def npz_pickled(folder: Path) -> Path:
    arrays = columns()
    arrays["observations"] = np.array([Exploit()] * N, dtype=object)
    path = folder / "hopper.npz"
    np.savez(path, allow_pickle=True, **arrays)
    return path


def npz_bomb(folder: Path) -> Path:
    """A megabyte that unpacks to more than is allowed."""
    path = write_valid_file(folder, "npz")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("next_observations.npy", header((MAX_BYTES // 44 + N, 11)))
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (MAX_BYTES + 10**6).to_bytes(4, "little")
    path.write_bytes(content)
    return path


def npz_claims_more(folder: Path) -> Path:
    """A header that claims ten thousand times the size of its entry."""
    return npz_entry(folder, header((N * 10_000, 11)) + columns()["observations"].tobytes())


def npz_overflowing_shape(folder: Path) -> Path:
    return npz_entry(folder, header((2**62, 2**62)))


def npz_negative_shape(folder: Path) -> Path:
    return npz_entry(folder, header((-1, 11)))


def npz_code_in_header(folder: Path) -> Path:
    text = b"{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (1,)}\n"
    return npz_entry(folder, b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)


def npz_entry(folder: Path, content: bytes) -> Path:
    arrays = columns()
    del arrays["observations"]
    path = write_npz(folder / "hopper.npz", arrays)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("observations.npy", content)
    return path


def header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def npz_flipped(folder: Path) -> Path:
    """One bit of compressed data flipped."""
    path = write_valid_file(folder, "npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x10
    path.write_bytes(content)
    return path


def hdf5_flipped(folder: Path) -> Path:
    """One bit of checksummed data flipped."""
    path = write_hdf5(folder / "hopper.hdf5", columns(), fletcher32=True, chunks=True)
    content = bytearray(path.read_bytes())
    position = content.find(columns()["observations"][:1].tobytes()[:16])
    assert position > 0
    content[position + 5] ^= 0x10
    path.write_bytes(content)
    return path


def pickle_file(folder: Path) -> Path:
    path = folder / "hopper.pkl"
    path.write_bytes(pickle.dumps(Exploit()))
    return path


def missing(folder: Path) -> Path:
    return folder / "none.hdf5"


def checkpoint_with(change):
    def make(folder: Path) -> Path:
        content = valid_checkpoint()
        content = change(content) or content
        torch.save(content, folder / "teacher.pt")
        return folder / "teacher.pt"

    return make


def pickle_exploit(content):
    content["actor"] = Exploit()


def no_actor(content):
    del content["actor"]


def bare_list(content):
    return [1, 2, 3]


def wrong_shape(content):
    content["actor"]["base_network.2.weight"] = torch.zeros(8, 5)


def nan_weights(content):
    content["critic1"]["network.0.weight"][0, 0] = float("nan")


def text_for_weight(content):
    content["actor"]["base_network.0.weight"] = "weights"


def vector_scale(content):
    content["actor"]["log_std_offset.constant"] = torch.zeros(3)


def repeated_number(content):
    content["actor"]["base_network.2.weight"] = torch.zeros(1).expand(2000, 2000)


def shared_numbers(content):
    shared = torch.zeros(1000, 1000)
    for layer in range(10, 20):
        content["actor"][f"base_network.{layer}.weight"] = shared
        content["actor"][f"base_network.{layer}.bias"] = shared[0]


def plain_pickle(folder: Path) -> Path:
    path = folder / "teacher.pt"
    path.write_bytes(pickle.dumps({"actor": Exploit()}))
    return path


def checkpoint_flipped(folder: Path) -> Path:
    path = write_valid_file(folder, "pt")
    content = bytearray(path.read_bytes())
    position = content.find(b"base_network")
    content[position + 2] ^= 0x08
    path.write_bytes(content)
    return path


def checkpoint_bomb(folder: Path) -> Path:
    """Kilobytes on disk that unpack to sixty-four megabytes."""
    path = folder / "teacher.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", b"\0" * (64 * 1024 * 1024))
    return path


def checkpoint_many_entries(folder: Path) -> Path:
    path = folder / "teacher.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(2000):
            archive.writestr(f"archive/data/{i}", b"")
    return path


HOSTILE_FILES = {
    "truncated hdf5": (truncated("hdf5"), "hopper.hdf5 cannot be read"),
    "truncated npz": (truncated("npz"), "hopper.npz cannot be read"),
    "truncated checkpoint": (truncated("pt"), "cannot be read"),
    "empty hdf5": (empty("hdf5"), "cannot be read"),
    "empty npz": (empty("npz"), "cannot be read"),
    "empty checkpoint": (empty("pt"), "cannot be read"),
    "web page as hdf5": (web_page("hdf5"), "cannot be read"),
    "web page as npz": (web_page("npz"), "cannot be read"),
    "web page as checkpoint": (web_page("pt"), "cannot be read"),
    "flipped bit in hdf5": (hdf5_flipped, "cannot be read"),
    "flipped bit in npz": (npz_flipped, "cannot be read"),
    "flipped bit in checkpoint": (checkpoint_flipped, "cannot be read|not usable|invalid"),
    "nan in hdf5": (changed("hdf5", observations=with_nan()), "not finite"),
    "nan in npz": (changed("npz", observations=with_nan()), "not finite"),
    "infinite after the cast": (changed("npz", rewards=np.full(N, 1e300)), "not finite"),
    "other task's width": (changed("hdf5", observations=np.zeros((N, 17))), "shape"),
    "no rows": (changed("hdf5", **{k: v[:0] for k, v in columns().items()}), "is empty"),
    "unequal lengths": (changed("npz", actions=np.zeros((N - 1, 3))), "different lengths"),
    "no actions": (changed("hdf5", actions=None), "contains no actions"),
    "three dimensions": (changed("npz", observations=np.zeros((N, 11, 1))), "shape"),
    "complex numbers": (changed("npz", rewards=np.zeros(N, complex)), "complex"),
    "hdf5 bomb": (hdf5_with(hdf5_bomb), "claims 880,000,000,000 bytes"),
    "hdf5 giant chunk": (hdf5_with(hdf5_giant_chunk), "chunks of"),
    "hdf5 external link": (hdf5_with(hdf5_external_link), "contains a link"),
    "hdf5 link to itself": (hdf5_with(hdf5_soft_link), "contains a link"),
    "hdf5 external storage": (hdf5_with(hdf5_external_storage), "is stored in other files"),
    "hdf5 virtual dataset": (hdf5_with(hdf5_virtual), "is stored in other files"),
    "hdf5 group": (hdf5_with(hdf5_group), "contains a group"),
    "hdf5 text": (hdf5_with(hdf5_text), "plain numbers"),
    "npz with pickle": (npz_pickled, "plain numbers|cannot be read"),
    "npz bomb": (npz_bomb, "unpacks to more"),
    "npz that claims more": (npz_claims_more, "claims 176,000,000 bytes"),
    "npz with overflowing shape": (npz_overflowing_shape, "claims"),
    "npz with negative shape": (npz_negative_shape, "claims|cannot be read"),
    "npz with code in its header": (npz_code_in_header, "cannot be read"),
    "pickle by name": (pickle_file, "no supported file extension"),
    "missing file": (missing, "no file"),
    "checkpoint that runs code": (checkpoint_with(pickle_exploit), "cannot be read"),
    "checkpoint as plain pickle": (plain_pickle, "cannot be read"),
    "checkpoint bomb": (checkpoint_bomb, "larger than"),
    "checkpoint of many entries": (checkpoint_many_entries, "2000 entries"),
    "checkpoint without an actor": (checkpoint_with(no_actor), "not usable"),
    "checkpoint that is a list": (checkpoint_with(bare_list), "contains a list"),
    "checkpoint of wrong shape": (checkpoint_with(wrong_shape), "invalid"),
    "checkpoint of one number": (checkpoint_with(repeated_number), "bytes of the 4 stored"),
    "checkpoint of shared numbers": (checkpoint_with(shared_numbers), "takes 40,0"),
    "checkpoint with nan": (checkpoint_with(nan_weights), "not finite"),
    "checkpoint with text": (checkpoint_with(text_for_weight), "not usable"),
    "checkpoint with a vector": (checkpoint_with(vector_scale), "not usable"),
}
