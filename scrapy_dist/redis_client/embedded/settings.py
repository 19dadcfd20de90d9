"""What FRONTIER_EMBEDDED_DIR and FRONTIER_EMBEDDED_LINGER say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scrapy.exceptions import NotConfigured
from scrapy.utils.project import data_path

from scrapy_dist import defaults
from scrapy_dist.exceptions import ConfigurationError, EmbeddedRedisError
from scrapy_dist.redis_client.embedded.files import ELSEWHERE, SOCKET
from scrapy_dist.redis_client.embedded.start import ensure_server
from scrapy_dist.redis_client.embedded.talk import reply_of

if TYPE_CHECKING:
    from scrapy.settings import BaseSettings


def ensure_server_for(settings: BaseSettings) -> Path:
    """`ensure_server` with the folder and the linger time of *settings*. Blocks."""
    return ensure_server(
        directory_from_settings(settings), linger=linger_from_settings(settings)
    )


def is_running_for(settings: BaseSettings) -> bool:
    """Whether the embedded Redis of *settings* answers; starts none. Blocks."""
    return reply_of(directory_from_settings(settings) / SOCKET, "PING") == "+PONG"


def directory_from_settings(settings: BaseSettings) -> Path:
    """The folder of the embedded Redis, absolute; its parents may be created.

    FRONTIER_EMBEDDED_DIR, below ``.scrapy`` of the project. Outside a project that is,
    as for all of Scrapy's data, ``.scrapy`` in the current directory.
    """
    name = settings.get("FRONTIER_EMBEDDED_DIR") or defaults.FRONTIER_EMBEDDED_DIR
    for _ in range(2):
        try:
            return Path(data_path(name)).absolute()
        except FileExistsError:
            # Scrapy creates `.scrapy` without expecting others that do the same.
            continue
        except NotConfigured as e:
            raise ConfigurationError(
                f"FRONTIER_EMBEDDED_DIR = {str(name)!r} is relative, but the project's"
                f" folder is unknown ({e}). Give an absolute path, or set REDIS_URL."
            ) from None
        except OSError as e:
            raise EmbeddedRedisError(
                f"FRONTIER_EMBEDDED_DIR = {str(name)!r} cannot be used: {e}."
                f" {ELSEWHERE}"
            ) from e
    raise EmbeddedRedisError(
        f"FRONTIER_EMBEDDED_DIR = {str(name)!r} cannot be used: .scrapy is a file."
        f" {ELSEWHERE}"
    )


def linger_from_settings(settings: BaseSettings) -> float:
    """FRONTIER_EMBEDDED_LINGER in seconds."""
    value = settings.get("FRONTIER_EMBEDDED_LINGER")
    if value is None:
        return defaults.FRONTIER_EMBEDDED_LINGER
    try:
        linger = float(value)
    except (TypeError, ValueError):
        linger = -1.0
    if not linger >= 0:
        raise ConfigurationError(
            f"FRONTIER_EMBEDDED_LINGER = {value!r} is not a number of seconds."
            " Write 0 or more."
        )
    return linger
