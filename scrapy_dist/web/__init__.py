"""The web page: what ``scrapy frontier web`` serves to people who would rather look."""
