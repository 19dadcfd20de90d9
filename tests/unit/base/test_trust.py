"""What is trusted of folders and files that others may have prepared."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from scrapy_dist.base import trust
from scrapy_dist.base.trust import Untrusted, check_files, open_private, own_folder

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Other tests may run with another umask."""
    folder = tmp_path / "root"
    folder.mkdir()
    folder.chmod(0o755)
    return folder.resolve()


def give_away(path: Path) -> None:
    os.chown(path, 12345, 12345, follow_symlinks=False)


def check(folder: Path) -> None:
    check_files(folder, is_ours=lambda name: name != "notes", written=("log",))


def test_new_folder_is_private(root: Path) -> None:
    folder = own_folder(root / "a" / "b")

    assert folder == root / "a" / "b"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert own_folder(folder) == folder


@pytest.mark.parametrize("umask", [0, 0o002, 0o077])
def test_whatever_the_umask_is_it_trusts_what_it_made(root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        own_folder(root / "a" / "b")
        own_folder(root / "a" / "b")
    finally:
        os.umask(before)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o720, 0o702, 0o1777, 0o2770])
def test_folder_that_others_may_write_into(root: Path, mode: int) -> None:
    folder = own_folder(root / "a" / "b")
    folder.chmod(mode)
    with pytest.raises(
        Untrusted, match=rf"{folder} has the mode {mode:04o}.*chmod go-w"
    ):
        own_folder(folder)


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o2777])
@pytest.mark.parametrize("above", [1, 2])
def test_parent_that_others_may_write_into(root: Path, mode: int, above: int) -> None:
    folder = own_folder(root / "a" / "b" / "c")
    parent = folder.parents[above - 1]
    parent.chmod(mode)
    with pytest.raises(Untrusted, match=f"{parent} has the mode"):
        own_folder(folder)
    # Nor is anything made there.
    with pytest.raises(Untrusted):
        own_folder(parent / "new")
    assert not (parent / "new").exists()


def test_sticky_parent_is_fine(root: Path) -> None:
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    own_folder(root / "tmp" / "mine")


def test_group_of_one_user_is_as_good_as_the_user(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """umask 002, as many systems have it; the data folder is stricter."""
    folder = own_folder(root / "a" / "b")
    folder.parent.chmod(0o775)
    monkeypatch.setattr(trust, "_is_own_group", lambda gid: False)
    with pytest.raises(Untrusted):
        own_folder(folder)
    monkeypatch.setattr(trust, "_is_own_group", lambda gid: True)
    own_folder(folder)
    folder.chmod(0o770)
    with pytest.raises(Untrusted):
        own_folder(folder)


@as_root
def test_root_has_no_group_of_its_own(root: Path) -> None:
    folder = own_folder(root / "a" / "b")
    folder.parent.chmod(0o775)
    with pytest.raises(Untrusted, match="0775"):
        own_folder(folder)


@as_root
@pytest.mark.parametrize("above", [0, 1])
def test_folder_of_somebody_else(root: Path, above: int) -> None:
    folder = own_folder(root / "a" / "b")
    (folder, folder.parent)[above].chmod(0o755)
    give_away((folder, folder.parent)[above])
    with pytest.raises(Untrusted, match="belongs to the user 12345"):
        own_folder(folder)


def test_own_link_is_followed_and_what_it_leads_through_is_checked(root: Path) -> None:
    target = own_folder(root / "disk" / "data")
    (root / "link").symlink_to("../root/disk/data/../data")
    assert own_folder(root / "link" / "x") == target / "x"
    target.parent.chmod(0o777)
    with pytest.raises(Untrusted, match="disk has the mode"):
        own_folder(root / "link" / "x")


@as_root
def test_link_of_somebody_else(root: Path) -> None:
    own_folder(root / "target")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "tmp" / "link").symlink_to(root / "target")
    give_away(root / "tmp" / "link")
    with pytest.raises(Untrusted, match="link belongs to the user 12345"):
        own_folder(root / "tmp" / "link")


def test_links_in_a_ring_and_a_file_in_the_way(root: Path) -> None:
    (root / "one").symlink_to(root / "two")
    (root / "two").symlink_to(root / "one")
    with pytest.raises(OSError, match="links"):
        own_folder(root / "one" / "x")
    (root / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        own_folder(root / "file" / "x")


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "hard"])
def test_file_that_is_none(root: Path, kind: str) -> None:
    victim = root / "victim"
    victim.write_text("mine")
    folder = own_folder(root / "data")
    log = folder / "log"
    if kind == "link":
        log.symlink_to(victim)
    elif kind == "dangling":
        log.symlink_to(root / "new")
    elif kind == "pipe":
        os.mkfifo(log)
    else:
        log.hardlink_to(victim)

    with pytest.raises(Untrusted, match=r"log is .* removes it"):
        check(folder)
    if kind != "hard":
        with pytest.raises(OSError, match="log"):
            open_private(log)
    assert victim.read_text() == "mine"
    assert not (root / "new").exists()


def test_file_that_others_may_read_is_mended(root: Path) -> None:
    folder = own_folder(root / "data")
    (folder / "appendonlydir").mkdir()
    files = [folder / "x.aof", folder / "appendonlydir" / "x.incr.aof"]
    for path in files:
        path.write_text("cookies")
        path.chmod(0o664)
    (folder / "appendonlydir").chmod(0o755)
    (folder / "notes").symlink_to("elsewhere")

    check(folder)

    assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 2
    assert (folder / "appendonlydir").stat().st_mode & 0o777 == 0o700


@as_root
def test_file_of_somebody_else(root: Path) -> None:
    folder = own_folder(root / "data")
    (folder / "x.aof").write_text("")
    give_away(folder / "x.aof")
    with pytest.raises(Untrusted, match="belongs to the user 12345"):
        check(folder)


def test_new_file_is_private_whatever_the_umask_is(root: Path) -> None:
    before = os.umask(0)
    try:
        open_private(root / "log").close()
    finally:
        os.umask(before)
    assert (root / "log").stat().st_mode & 0o777 == 0o600


def test_where_folders_of_tests_are() -> None:
    """The folder for temporary files of this machine is one that can be used."""
    folder = Path(tempfile.mkdtemp())
    try:
        assert own_folder(folder) == folder.resolve()
    finally:
        shutil.rmtree(folder)
