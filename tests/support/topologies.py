"""A Redis with sentinels, and a Redis Cluster, on loopback."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from typing import TYPE_CHECKING

import redis
from redis.crc import key_slot

from tests.support.redis_server import RedisServer, find_binary, free_port
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from pathlib import Path

MASTER = "shop"
SLOTS = 16384


class Sentinels:
    """A master, its replica and three sentinels that watch them."""

    def __init__(self, folder: Path) -> None:
        self.master = RedisServer(folder / "master", appendonly="yes")
        with self.master.client() as client:
            client.acl_setuser(
                "replica", enabled=True, passwords=["+pw"], keys=["*"], channels=["*"]
            )
            client.execute_command("ACL SETUSER replica +@all")
        self.replica = RedisServer(
            folder / "replica",
            appendonly="yes",
            masteruser="replica",
            masterauth="pw",
            repl_diskless_sync="yes",
            repl_diskless_sync_delay="0",
        )
        with self.replica.client() as client:
            client.replicaof("127.0.0.1", self.master.port)
        wait_until(self._is_linked, "the replica")
        self.ports = [free_port() for _ in range(3)]
        self._processes = [self._start(folder, port) for port in self.ports]
        wait_until(self._agree, "three sentinels that know the replica")

    @property
    def url(self) -> str:
        nodes = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{nodes}/{MASTER}/0"

    def _start(self, folder: Path, port: int) -> subprocess.Popen[bytes]:
        config = folder / f"sentinel-{port}.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {MASTER} 600\n"
            f"sentinel failover-timeout {MASTER} 4000\n"
        )
        return subprocess.Popen(
            [find_binary(), str(config), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _is_linked(self) -> bool:
        with self.replica.client() as client:
            return client.info("replication")["master_link_status"] == "up"

    def _agree(self) -> bool:
        for port in self.ports:
            with redis.Redis(port=port) as client:
                try:
                    info = client.sentinel_master(MASTER)
                except redis.RedisError:
                    return False
                if info["num-slaves"] < 1 or info["num-other-sentinels"] < 2:
                    return False
        return True

    def cut_replication(self) -> None:
        """From now on the replica learns nothing more."""
        with self.master.client() as client:
            client.execute_command("ACL SETUSER replica off")
            client.execute_command("CLIENT KILL TYPE replica")

    def wait_for_failover(self) -> None:
        with self.replica.client() as client:
            wait_until(lambda: client.info()["role"] == "master", "a new master", 30)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(10)
        self.master.kill()
        self.replica.kill()


class Cluster:
    """Three masters; *replicas* more nodes follow the master of *key*."""

    def __init__(self, folder: Path, key: str, replicas: int = 0) -> None:
        self.slot = key_slot(key.encode())
        self.nodes = [
            RedisServer(
                folder / f"node-{n}",
                port=free_cluster_port(),
                cluster_enabled="yes",
                cluster_node_timeout="1000",
                appendonly="yes",
                repl_diskless_sync="yes",
                repl_diskless_sync_delay="0",
            )
            for n in range(3 + replicas)
        ]
        first, *others = self.nodes
        for node in others:
            self._do(node, "CLUSTER", "MEET", "127.0.0.1", first.port)
        for n, node in enumerate(self.nodes[:3]):
            slots = range(n * SLOTS // 3, (n + 1) * SLOTS // 3)
            self._do(node, "CLUSTER", "ADDSLOTS", *slots)
        wait_until(self._is_ok, "the cluster", 30)
        master = self.id(self.master)
        for node in self.nodes[3:]:
            wait_until(lambda node=node: self._follow(node, master), "a replica")
            with node.client() as client:
                wait_until(
                    lambda c=client: (
                        c.info("replication")["master_link_status"] == "up"
                    ),
                    "the replica's link",
                )

    @property
    def url(self) -> str:
        ports = [node.port for node in self.nodes[:3]]
        return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)

    @property
    def master(self) -> RedisServer:
        """The node that had the slot of the key in the beginning."""
        return self.nodes[min(self.slot * 3 // SLOTS, 2)]

    def id(self, node: RedisServer) -> str:
        return self._do(node, "CLUSTER", "MYID").decode()

    def migrate(self, target: RedisServer) -> None:
        """Move the slot and its keys to *target*, as redis-cli does."""
        source, slot = self.master, self.slot
        self._do(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.id(source))
        self._do(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.id(target))
        while keys := self._do(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
            self._do(
                source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys
            )
        for node in (target, source, *self.nodes[:3]):
            self._do(node, "CLUSTER", "SETSLOT", slot, "NODE", self.id(target))

    def _do(self, node: RedisServer, *command: object):
        # A plain connection: redis-py's client reshapes the replies of CLUSTER commands.
        connection = redis.Connection(port=node.port)
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            connection.disconnect()

    def _follow(self, node: RedisServer, master: str) -> bool:
        try:
            self._do(node, "CLUSTER", "REPLICATE", master)
        except redis.ResponseError:  # it does not know the master yet
            return False
        return True

    def _is_ok(self) -> bool:
        for node in self.nodes:
            info = self._do(node, "CLUSTER", "INFO").decode()
            known = f"cluster_known_nodes:{len(self.nodes)}\r"
            if "cluster_state:ok" not in info or known not in info:
                return False
        return True

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()


def free_cluster_port() -> int:
    """A free port whose bus port, 10000 above, is free too."""
    while True:
        port = free_port()
        with socket.socket() as probe, contextlib.suppress(OSError, OverflowError):
            probe.bind(("127.0.0.1", port + 10000))
            return port
