"""Files that commands write."""

from __future__ import annotations

import gzip

import pytest

from scrapy_dist.commands import files
from scrapy_dist.exceptions import ConfigurationError


def test_a_file_that_came_meanwhile_stays(tmp_path):
    path = tmp_path / "f"

    def write():
        with files.written(path) as file:
            file.write(b"ours")
            path.write_bytes(b"theirs")

    with pytest.raises(ConfigurationError, match="is there already"):
        write()
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    target, path = tmp_path / "target", tmp_path / "f.gz"
    target.write_bytes(b"theirs")
    path.symlink_to(target)
    with files.written(path, overwrite=True) as file:
        file.write(b"ours")
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert gzip.decompress(path.read_bytes()) == b"ours"
    assert target.read_bytes() == b"theirs"


def test_a_very_long_name_is_written(tmp_path):
    path = tmp_path / ("x" * 255)
    with files.written(path) as file:
        file.write(b"ours")
    assert path.read_bytes() == b"ours"
