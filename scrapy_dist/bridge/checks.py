"""What RabbitMQ must have before the bridge can work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pika.exceptions import AMQPError
from pika.spec import Basic

from scrapy_dist.bridge.link import Link, LinkLost
from scrapy_dist.exceptions import ConfigurationError

if TYPE_CHECKING:
    from scrapy_dist.bridge.address import Address

#: Reply codes: there is no such queue or exchange; it does not take this argument.
_NOT_FOUND, _BAD_ARGUMENT = 404, 406
#: This user has no right to it.
_NO_RIGHT = 403
#: An argument that RabbitMQ takes from consumers of streams only.
_OFFSET = "x-stream-offset"


@asynccontextmanager
async def _asking(address: Address, given: str, what: str) -> AsyncIterator[Link]:
    """A link on which to ask for the *what* that is *given*.

    Raises ConfigurationError for what is refused then, and LinkLost as `Link.open`.
    """
    link = await Link.open(address)
    try:
        yield link
    except LinkLost:
        if link.code == _NOT_FOUND:
            raise ConfigurationError(
                f"{given}: RabbitMQ at {address.shown} has no such {what}. Make it first:"
                " what it is to be like (durable, its type, its limits) is yours to say."
            ) from None
        if link.code:
            reason = address.hide(link.reason)
            raise ConfigurationError(f"{given}: {reason}") from None
        raise
    finally:
        await link.close()


async def check_source(address: Address, option: str, queue: str) -> None:
    """Raise ConfigurationError unless tasks can be taken from *queue*.

    Raises LinkLost as `Link.open`.
    """
    await check_queue(address, option, queue)
    # Not a word of the protocol tells the type of a queue. But it refuses the offset of a
    # stream before it makes a consumer, so that nothing is taken out of another queue.
    async with _asking(address, f"{option} {queue}", "queue") as link:
        try:
            await link.call(link.channel.basic_qos, prefetch_count=1)
            await link.call(
                link.channel.basic_consume,
                queue,
                lambda *_: None,
                arguments={_OFFSET: "next"},
            )
            # A broker without streams may not look at it. Streams alone have no basic.get.
            await link.call(partial(_get, link, queue))
        except LinkLost:
            if link.reason.startswith("NOT_IMPLEMENTED"):
                raise ConfigurationError(
                    f"{option} {queue}: at RabbitMQ {address.shown} this is a stream, which"
                    " keeps no account of what was done, so a task could be lost or done"
                    " twice. Take a classic or a quorum queue: declare one of another name,"
                    " without x-queue-type=stream."
                ) from None
            if link.code != _BAD_ARGUMENT or _OFFSET not in link.reason:
                raise


def _get(link: Link, queue: str, *, callback: Callable[[Any], object]) -> None:
    link.channel.add_callback(callback, [Basic.GetEmpty])
    link.channel.basic_get(queue, lambda *found: callback(found))


async def check_queue(address: Address, option: str, queue: str) -> None:
    """Raise ConfigurationError if *queue*, which *option* names, is not there.

    Raises LinkLost as `Link.open`.
    """
    async with _asking(address, f"{option} {queue}", "queue") as link:
        await link.call(link.channel.queue_declare, queue, passive=True)


async def check_exchange(address: Address, option: str, exchange: str) -> None:
    """As `check_queue`, for an exchange."""
    async with _asking(address, f"{option} {exchange}", "exchange") as link:
        await link.call(link.channel.exchange_declare, exchange, passive=True)


async def check_writing(address: Address, exchange: str) -> None:
    """Raise ConfigurationError if this user may not publish to *exchange*.

    What cannot be found out now is told when something is sent.
    """
    link = await Link.open(address)
    # While RabbitMQ takes no messages it would not answer.
    link.on_blocked = link.lose
    try:
        # In a transaction that does not end the right is asked for, and nothing is sent.
        await link.call(link.channel.tx_select)
        link.channel.basic_publish(exchange, "", b"")
        await link.call(link.channel.tx_rollback)
    except (LinkLost, AMQPError):
        if link.code == _NO_RIGHT:
            raise ConfigurationError(
                f"RabbitMQ at {address.shown}: {address.hide(link.reason)}. What is sent"
                " needs the right to write there: see scrapy frontier help rabbitmq."
            ) from None
    finally:
        await link.close()
