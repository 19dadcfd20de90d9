"""The words, values and ports of the frontier, without any input or output.

**frontier**: all shared state of one crawl. **pending**: a request that nobody works on.
**slot**: the host (or FRONTIER_SLOT's answer) that a request belongs to: slots take turns.
**seat**: in a polite crawl, the right of one worker to ask a slot; see `politeness`.
**lease**: a request handed to one worker and not yet settled; it stays with the broker
until it is. **settle**: to end a lease: ack (done, and all that it produced is stored),
fail (dead letter) or release (given back). **worker**: one running ``scrapy crawl``.
**heartbeat**: a worker says that it lives. **seed**: a URL or JSON object that somebody
pushed; **task**: one with an id, whose state, counts and items can be asked for.
**suspect**: a request whose worker died while holding it. **dead letter**: a request
set aside with a reason, never silently dropped. **pinned**: a request that stays in the
worker that has its cookies. **drained**: nothing pending, suspect or leased by anybody,
no seed waiting. **exchange**: one round trip between a worker and the broker.

What every broker and the worker hold to, and the code and tests call by these names:

I1. A request is acknowledged only in, or after, the commit that stores everything it
    produced.
I2. The broker always holds a consistent prefix of the crawl: a rollback (restart from an
    old file, failover to a lagging replica) is a rollback to an earlier consistent
    frontier, and the crawl goes on from there without losing a page.
I3. A request is in exactly one place: pending, suspect, leased by one worker, dead
    letter, or done.
I4. Scrapy's event loop never waits for the broker.
I5. What a user wrote for Scrapy or scrapy-redis is honoured, or refused at start by name.
    It is never silently ignored, and nothing is thrown away to make room.
"""
