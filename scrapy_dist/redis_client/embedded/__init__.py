"""The local Redis that the processes of one project share when none is configured.

A real ``redis-server`` on a unix socket in the project's data directory. Whoever needs
it first starts it, through a detached supervisor (a process of its own) that
ends it when nobody has used it for a while.

Three lock files decide everything, because the kernel frees them on any kind of death
while pid files lie after a crash or reboot:

``lock``             held for a moment by whoever starts, joins or stops the server
``supervisor.lock``  held by the supervisor as long as it lives
``server.lock``      held by redis-server itself, through an inherited descriptor: two
                     servers must never write one append-only file
"""
