"""What RabbitMQ must have before the bridge can work."""

from __future__ import annotations

from collections.abc import Callable
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


async def check_source(address: Address, option: str, queue: str) -> None:
    """Raise ConfigurationError unless tasks can be taken from *queue*.

    Raises LinkLost as `Link.open`.
    """
    await check_queues(address, {option: queue})
    # Not a word of the protocol tells the type of a queue. But it refuses the offset of a
    # stream before it makes a consumer, so that nothing is taken out of another queue.
    link = await Link.open(address)
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
    except LinkLost as e:
        if link.reason.startswith("NOT_IMPLEMENTED"):
            raise _not_a_queue(address, f"{option} {queue}") from None
        if link.code != _BAD_ARGUMENT or _OFFSET not in link.reason:
            raise (_refused(link, address, f"{option} {queue}", "queue") or e) from None
    finally:
        await link.close()


def _get(link: Link, queue: str, *, callback: Callable[[Any], object]) -> None:
    link.channel.add_callback(callback, [Basic.GetEmpty])
    link.channel.basic_get(queue, lambda *found: callback(found))


def _not_a_queue(address: Address, given: str) -> ConfigurationError:
    return ConfigurationError(
        f"{given}: at RabbitMQ {address.shown} this is a stream, which keeps no account of"
        " what was done, so a task could be lost or done twice. Take a classic or a quorum"
        " queue: declare one of another name, without x-queue-type=stream."
    )


async def check_queues(address: Address, queues: dict[str, str]) -> None:
    """Raise ConfigurationError for the first of *queues* that is not there.

    They are named by the options that ask for them. Raises LinkLost as `Link.open`.
    """
    link = await Link.open(address)
    try:
        for option, queue in queues.items():
            try:
                await link.call(link.channel.queue_declare, queue, passive=True)
            except LinkLost as e:
                raise (
                    _refused(link, address, f"{option} {queue}", "queue") or e
                ) from None
    finally:
        await link.close()


async def check_exchange(address: Address, option: str, exchange: str) -> None:
    """As `check_queues`, for an exchange."""
    link = await Link.open(address)
    try:
        await link.call(link.channel.exchange_declare, exchange, passive=True)
    except LinkLost as e:
        raise _refused(link, address, f"{option} {exchange}", "exchange") or e from None
    finally:
        await link.close()


async def check_writing(address: Address, exchange: str) -> None:
    """Raise ConfigurationError if this user may not publish to *exchange*.

    What cannot be found out now is told when something is sent.
    """
    link = await Link.open(address)
    # While RabbitMQ takes no messages it would not answer.
    link.on_blocked = link.give_up
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


def _refused(
    link: Link, address: Address, given: str, what: str
) -> ConfigurationError | None:
    if link.code == _NOT_FOUND:
        return ConfigurationError(
            f"{given}: RabbitMQ at {address.shown} has no such {what}. Make it first:"
            " what it is to be like (durable, its type, its limits) is yours to say."
        )
    if link.code:
        return ConfigurationError(f"{given}: {address.hide(link.reason)}")
    return None
