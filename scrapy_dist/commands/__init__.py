"""``scrapy frontier …``: look after the frontier of a crawl from the command line.

``frontier`` is the command that Scrapy finds, ``base`` what its subcommands share; each
subcommand is a module with a `base.Subcommand`.
"""
