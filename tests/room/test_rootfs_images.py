"""How images get onto the machine: pulled or out of archives, whole or not at all, whatever is in their layers."""

import base64
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.images import Image, make_layer
from tests.support.ordinary_user import run_again_as_ordinary_user
from tests.support.registry import PASSWORD, USER, Registry, needs_registry, registry
from tests.support.unpacked import make_images

from moorage.engine.interrupts import Interrupt
from moorage.engine.launch import ImageFailure
from moorage.engine.references import parse_reference
from moorage.engine.registry.manifests import UnusableImage
from moorage.engine.rootfs.layers import LayerLimits, unpack
from moorage.engine.rootfs.store import ImageStore

AS_ROOT = os.geteuid() == 0


def small_image(**config: Any) -> Image:
    return Image((make_layer({"a": b"lower", "b": b"only"}), make_layer({"a": b"upper"})), config)


def files_of(store: ImageStore, digest: str) -> list[list[str]]:
    known = store.find(digest)
    assert known is not None
    return [names_in(folder) for folder in store.layers(known)]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def silent(_line: str) -> None:
    pass


# --- from registries


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Registry]:
    with registry(tmp_path / "registry") as made:
        yield made


@needs_registry
async def test_image_is_pulled_and_its_layers_are_unpacked(tmp_path: Path, shop: Registry) -> None:
    digest = small_image(Entrypoint=["run"], User="5").push(shop, "team/model", "1")
    images, store = make_images(tmp_path)
    told: list[str] = []
    reference, known = await images.ensure(f"{shop.host}/team/model:1", told.append)
    assert reference.pinned(known.digest) == f"{shop.host}/team/model@{digest}"
    assert (known.entrypoint, known.uid, known.home) == (("run",), 5, "/")
    assert files_of(store, digest) == [["a"], ["a", "b"]]
    assert any("pulling" in line for line in told)


@needs_registry
async def test_tag_is_asked_for_each_time_and_a_digest_only_when_it_is_missing(tmp_path: Path, shop: Registry) -> None:
    images, _store = make_images(tmp_path)
    first = small_image().push(shop, "team/model", "1")
    assert (await images.ensure(f"{shop.host}/team/model:1", silent))[1].digest == first
    second = small_image(Env=["NEW=1"]).push(shop, "team/model", "1")
    assert (await images.ensure(f"{shop.host}/team/model:1", silent))[1].digest == second
    told: list[str] = []
    assert (await images.ensure(f"{shop.host}/team/model@{first}", told.append))[1].digest == first
    assert told == []


@needs_registry
async def test_registry_that_is_gone_leaves_what_its_name_stood_for(tmp_path: Path) -> None:
    images, _store = make_images(tmp_path)
    with registry(tmp_path / "registry") as shop:
        digest = small_image().push(shop, "team/model", "1")
        await images.ensure(f"{shop.host}/team/model:1", silent)
    told: list[str] = []
    assert (await images.ensure(f"{shop.host}/team/model:1", told.append))[1].digest == digest
    assert "What was pulled before is taken." in told[-1]
    with pytest.raises(ImageFailure, match="cannot be reached"):
        await images.ensure(f"{shop.host}/team/other:1", silent)


@needs_registry
async def test_registry_with_a_password_is_given_that_of_dockers_configuration(tmp_path: Path) -> None:
    images, _store = make_images(tmp_path)
    with registry(tmp_path / "registry", protected=True) as shop:
        digest = small_image().push(shop, "team/model", "1")
        with pytest.raises(ImageFailure, match=f"docker login {shop.host}"):
            await images.ensure(f"{shop.host}/team/model:1", silent)
        log_in(tmp_path, shop, PASSWORD)
        assert (await images.ensure(f"{shop.host}/team/model:1", silent))[1].digest == digest
        log_in(tmp_path, shop, "wrong")
        with pytest.raises(ImageFailure, match="docker login"):
            await make_images(tmp_path)[0].ensure(f"{shop.host}/team/other:1", silent)


def log_in(folder: Path, shop: Registry, password: str) -> None:
    file = folder / "docker" / "config.json"
    file.parent.mkdir(exist_ok=True)
    packed = base64.b64encode(f"{USER}:{password}".encode()).decode()
    file.write_text(json.dumps({"auths": {shop.host: {"auth": packed}}}), encoding="utf-8")


@needs_registry
async def test_name_on_aws_is_fetched_from_the_mirror_and_keeps_its_name(tmp_path: Path, shop: Registry) -> None:
    digest = small_image().push(shop, "team/model", "1")
    images, _store = make_images(tmp_path, mirrors={"*.dkr.ecr.*.amazonaws.com": shop.host})
    name = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/model"
    reference, known = await images.ensure(f"{name}:1", silent)
    assert reference.pinned(known.digest) == f"{name}@{digest}"


@needs_registry
async def test_index_gives_the_image_of_this_machine(tmp_path: Path, shop: Registry) -> None:
    image = small_image()
    architecture = json.loads(image.described)["architecture"]
    inner = image.push(shop, "team/model", "inner")
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                {
                    "mediaType": json.loads(image.manifest)["mediaType"],
                    "digest": inner,
                    "size": len(image.manifest),
                    "platform": {"os": "linux", "architecture": architecture},
                }
            ],
        }
    ).encode()
    shop.put_manifest("team/model", "1", index, "application/vnd.oci.image.index.v1+json")
    images, store = make_images(tmp_path)
    _reference, known = await images.ensure(f"{shop.host}/team/model:1", silent)
    assert known.digest == f"sha256:{hashlib.sha256(index).hexdigest()}"
    assert files_of(store, known.digest) == [["a"], ["a", "b"]]


@needs_registry
async def test_corrupt_layer_is_refused_and_nothing_of_it_is_left(tmp_path: Path, shop: Registry) -> None:
    image = small_image()
    image.push(shop, "team/model", "1")
    digest = image.layers[0].digest.removeprefix("sha256:")
    (blob,) = (tmp_path / "registry").glob(f"data/docker/registry/v2/blobs/sha256/*/{digest}/data")
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    images, store = make_images(tmp_path)
    with pytest.raises(ImageFailure, match="something else than sha256"):
        await images.ensure(f"{shop.host}/team/model:1", silent)
    assert not store.layer(image.layers[0].diff_id).exists()
    assert not list(store.folder.glob("layers/.*unfinished*"))
    assert store.names() == []


@needs_registry
async def test_image_larger_than_the_limit_is_refused(tmp_path: Path, shop: Registry) -> None:
    small_image().push(shop, "team/model", "1")
    images, _store = make_images(tmp_path, artifact_bytes=100)
    with pytest.raises(ImageFailure, match="more than MOORAGE_ARTIFACT_BYTES=100"):
        await images.ensure(f"{shop.host}/team/model:1", silent)


async def test_text_that_names_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageFailure, match="is not the name of an image"):
        await make_images(tmp_path)[0].ensure("Not An Image", silent)


# --- from archives


async def test_archive_of_docker_save_is_added_and_no_registry_asked_for_its_name(tmp_path: Path) -> None:
    images, store = make_images(tmp_path)
    archive = small_image(Entrypoint=["run"]).archive(tmp_path / "image.tar", "whatever:1")
    known = await images.add_archive("registry.invalid/team/model:1", archive, silent)
    assert known.digest == f"sha256:{hashlib.sha256(small_image(Entrypoint=['run']).described).hexdigest()}"
    assert files_of(store, known.digest) == [["a"], ["a", "b"]]
    _reference, found = await images.ensure("registry.invalid/team/model:1", silent)
    assert found == known
    assert images.has("registry.invalid/team/model:1")
    assert not images.has("registry.invalid/team/model:2")


def write_layout(path: Path, image: Image) -> str:
    """Write an OCI layout, as podman, buildah, skopeo and newer Dockers do; gives the manifest's digest."""
    digest = hashlib.sha256(image.manifest).hexdigest()
    index = {"schemaVersion": 2, "manifests": [{"digest": f"sha256:{digest}", "size": len(image.manifest)}]}
    blobs = {digest: image.manifest, hashlib.sha256(image.described).hexdigest(): image.described}
    blobs |= {layer.digest.removeprefix("sha256:"): layer.path.read_bytes() for layer in image.layers}
    members = {f"blobs/sha256/{name}": content for name, content in blobs.items()}
    members["index.json"] = json.dumps(index).encode()
    path.write_bytes(tar(members))
    return f"sha256:{digest}"


def tar(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
            else:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


async def test_archive_of_an_oci_layout_is_added_by_its_own_digest(tmp_path: Path) -> None:
    digest = write_layout(tmp_path / "image.tar", small_image())
    images, store = make_images(tmp_path)
    known = await images.add_archive("model:1", tmp_path / "image.tar", silent)
    assert known.digest == digest
    assert files_of(store, digest) == [["a"], ["a", "b"]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no tar at all" * 1000, "not a tar archive"),
        (tar({"other": b""}), "neither index.json nor manifest.json"),
        (tar({"manifest.json": b"{"}), "not JSON"),
        (tar({"manifest.json": b'[{"Config": "c", "Layers": []}]'}), "no configuration"),
        (tar({"manifest.json": b'[{"Config": "c", "Layers": ["x"]}]', "c": b"{}"}), "no 'x'"),
        (tar({"manifest.json": b"[]"}), "has 0 images"),
    ],
)
async def test_archive_that_is_none_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "image.tar").write_bytes(content)
    with pytest.raises(ImageFailure, match=reason):
        await make_images(tmp_path)[0].add_archive("model:1", tmp_path / "image.tar", silent)


async def test_layers_are_shared_by_images_and_go_with_the_last(tmp_path: Path) -> None:
    images, store = make_images(tmp_path)
    one, other = small_image(), small_image(Env=["OTHER=1"])
    await images.add_archive("one:1", one.archive(tmp_path / "1.tar"), silent)
    await images.add_archive("other:1", other.archive(tmp_path / "2.tar"), silent)
    assert len(list(store.folder.glob("layers/[!.]*"))) == 2
    assert store.remove(parse_reference("one:1"))
    assert images.has("other:1")
    assert store.remove(parse_reference("other:1"))
    assert list(store.folder.glob("layers/[!.]*")) == []
    assert not store.remove(parse_reference("other:1"))


async def test_what_a_killed_pull_has_left_is_removed_and_what_another_unpacks_is_not(tmp_path: Path) -> None:
    _images, store = make_images(tmp_path)
    layers = store.folder / "layers"
    for name in ("killed", "busy"):
        (layers / f".{name}.unfinished-0123" / "fs").mkdir(parents=True)
    with (layers / ".busy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store.clear_unfinished()
    assert [path.name for path in layers.glob(".*.unfinished-*")] == [".busy.unfinished-0123"]


# --- what is in layers


def member(kind: bytes, target: str = "", mode: int = 0o644, **more: Any) -> tarfile.TarInfo:
    entry = tarfile.TarInfo()
    entry.type, entry.linkname, entry.mode = kind, target, mode
    for name, value in more.items():
        setattr(entry, name, value)
    return entry


def unpacked(folder: Path, members: Mapping[str, bytes | tarfile.TarInfo], pack: Any = gzip.compress) -> Path:
    content = tar(members)
    target = folder / "layer"
    target.mkdir()
    limits = LayerLimits(2**20, 100)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    unpack(io.BytesIO(pack(content)), target, digest, limits, Interrupt(), lambda _: None)
    return target


def test_marks_become_overlayfss_own(tmp_path: Path) -> None:
    layer = unpacked(tmp_path, {"a/.wh.gone": b"", "b/.wh..wh..opq": b"", "b/new": b"1"})
    found = (layer / "a" / "gone").stat()
    assert (stat.S_ISCHR(found.st_mode), found.st_rdev) == (True, 0)
    assert os.getxattr(layer / "b", f"{'trusted' if AS_ROOT else 'user'}.overlay.opaque") == b"y"
    assert names_in(layer / "b") == ["new"]


def test_file_and_its_mark_in_one_layer_leave_the_file(tmp_path: Path) -> None:
    layer = unpacked(tmp_path, {".wh.a": b"", "a": b"new", "b": b"new", ".wh.b": b"", "c/x": b"1", ".wh.c": b""})
    assert ((layer / "a").read_bytes(), (layer / "b").read_bytes()) == (b"new", b"new")
    assert os.getxattr(layer / "c", f"{'trusted' if AS_ROOT else 'user'}.overlay.opaque") == b"y"


def test_links_lead_nothing_out_of_the_layer(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    members: dict[str, bytes | tarfile.TarInfo] = {
        str(outside): member(tarfile.DIRTYPE, mode=0o755),
        "absolute": member(tarfile.SYMTYPE, str(outside)),
        "up": member(tarfile.SYMTYPE, "../" * 20 + str(outside).lstrip("/")),
        "absolute/one": b"1",
        "up/two": b"2",
    }
    layer = unpacked(tmp_path, members)
    assert names_in(outside) == []
    inside = layer / str(outside).lstrip("/")
    assert names_in(inside) == ["one", "two"]


def test_file_below_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (outside := tmp_path / "outside").mkdir()
    with pytest.raises(UnusableImage, match="two different things"):
        unpacked(tmp_path, {"a": member(tarfile.SYMTYPE, str(outside)), "a/b": b"1"})
    assert names_in(outside) == []


def test_file_takes_the_place_of_a_link_and_not_of_what_it_leads_to(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched", encoding="utf-8")
    layer = unpacked(tmp_path, {"a": member(tarfile.SYMTYPE, str(victim)), "./a": b"new"})
    assert (layer / "a").read_bytes() == b"new"
    assert victim.read_text(encoding="utf-8") == "untouched"


@pytest.mark.parametrize("target", ["../../../../../../../etc/passwd", "/etc/passwd", "absent"])
def test_hard_link_to_what_is_not_in_the_layer_is_refused(tmp_path: Path, target: str) -> None:
    with pytest.raises(UnusableImage, match=r"leads out of it|not there"):
        unpacked(tmp_path, {"a": member(tarfile.LNKTYPE, target)})


def test_hard_link_through_a_link_stays_in_the_layer(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    members = {"out": member(tarfile.SYMTYPE, str(tmp_path)), "a": member(tarfile.LNKTYPE, "out/secret")}
    with pytest.raises(UnusableImage, match="two different things"):
        unpacked(tmp_path, members)


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/../a"])
def test_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnusableImage, match="leads out of it"):
        unpacked(tmp_path, {name: b""})


def test_absolute_names_are_below_the_root(tmp_path: Path) -> None:
    assert names_in(unpacked(tmp_path, {"/etc/hosts": b""})) == ["etc"]


def test_devices_are_left_out_and_setuid_bits_not_taken_over(tmp_path: Path) -> None:
    members = {
        "dev/kmsg": member(tarfile.CHRTYPE, devmajor=1, devminor=11),
        "dev/sda": member(tarfile.BLKTYPE, devmajor=8, devminor=0),
        "su": member(tarfile.REGTYPE, mode=0o4755),
        "pipe": member(tarfile.FIFOTYPE),
    }
    layer = unpacked(tmp_path, members)
    assert not (layer / "dev" / "kmsg").exists()
    assert stat.S_IMODE((layer / "su").stat().st_mode) == 0o755
    assert stat.S_ISFIFO((layer / "pipe").stat().st_mode)


def test_folders_keep_their_modes_and_can_be_filled_before(tmp_path: Path) -> None:
    layer = unpacked(tmp_path, {"closed": member(tarfile.DIRTYPE, mode=0o555), "closed/a": b"1"})
    assert stat.S_IMODE((layer / "closed").stat().st_mode) == (0o555 if AS_ROOT else 0o755)
    assert (layer / "closed" / "a").read_bytes() == b"1"


@pytest.mark.skipif(not AS_ROOT, reason="an ordinary user's files are all that user's")
def test_owners_are_the_images_and_those_beyond_its_range_nobody(tmp_path: Path) -> None:
    members = {"a": member(tarfile.REGTYPE, uid=33, gid=44), "b": member(tarfile.REGTYPE, uid=1_000_700_000, gid=0)}
    layer = unpacked(tmp_path, members)
    owners = [(found.st_uid, found.st_gid) for found in ((layer / name).stat() for name in "ab")]
    assert owners == [(33, 44), (65534, 0)]


def test_layer_of_other_content_than_the_configuration_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableImage, match="is not sha256"):
        unpack(io.BytesIO(tar({"a": b"1"})), tmp_path, f"sha256:{'0' * 64}", LayerLimits(10, 10), Interrupt(), print)


@pytest.mark.parametrize(
    ("members", "reason"),
    [({"a": b"x" * (2**20 + 1)}, "larger than"), ({str(number): b"" for number in range(101)}, "more than 100 files")],
)
def test_bomb_ends_at_the_limits(tmp_path: Path, members: Mapping[str, bytes], reason: str) -> None:
    with pytest.raises(UnusableImage, match=reason):
        unpacked(tmp_path, members)


def test_header_of_any_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableImage, match="more header data"):
        unpacked(tmp_path, {"x" * (17 * 2**20): b""})


@pytest.mark.parametrize("cut", [100, 600, -1])
def test_damaged_layer_is_refused(tmp_path: Path, cut: int) -> None:
    with pytest.raises(UnusableImage, match=r"damaged|is not sha256"):
        unpacked(tmp_path, {"a": b"x" * 4000, "b": os.urandom(3000)}, lambda content: gzip.compress(content)[:cut])


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
def test_layer_packed_by_zstd_is_unpacked(tmp_path: Path) -> None:
    packed_file = tmp_path / "packed"
    content = tar({"a": b"1"})
    packed_file.write_bytes(subprocess.run(["zstd", "-c"], input=content, capture_output=True, check=True).stdout)
    (target := tmp_path / "layer").mkdir()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with packed_file.open("rb") as packed:
        unpack(packed, target, digest, LayerLimits(2**20, 100), Interrupt(), lambda _: None)
    assert (target / "a").read_bytes() == b"1"


@pytest.mark.skipif(not AS_ROOT, reason="is run by root, as another user")
def test_all_this_holds_for_an_ordinary_user(tmp_path: Path) -> None:
    run_again_as_ordinary_user(__file__, tmp_path / "home")
