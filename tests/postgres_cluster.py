"""A real Postgres for tests and measurements: Debian's programs, a folder of its own, a free port, fsync on.

It ends with `stop`, or when the process that started it dies.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import cache
from glob import glob
from pathlib import Path
from tempfile import gettempdir, mkdtemp

_USER = "postgres"
_PATIENCE = 60.0


@cache
def postgres_programs() -> Path | None:
    """The directory with `initdb` and `postgres`: AOB_TEST_POSTGRES, or else the newest of Debian's, or else what
    `pg_config` or the PATH says."""
    if named := os.environ.get("AOB_TEST_POSTGRES"):
        return Path(named)
    debian = sorted(glob("/usr/lib/postgresql/*/bin"), key=lambda d: float(Path(d).parent.name), reverse=True)
    found = [Path(d) for d in debian]
    if shutil.which("pg_config"):
        asked = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=False)
        found.append(Path(asked.stdout.strip()))
    if on_path := shutil.which("postgres"):
        found.append(Path(on_path).parent)
    return next((d for d in found if (d / "initdb").exists() and (d / "postgres").exists()), None)


def install_from_debian(package: str, present: Callable[[], bool]) -> bool:
    """Whether something is there once its package was installed, where root may do that. One process does it."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with open(Path(gettempdir()) / "aob-tests-install.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        postgres_programs.cache_clear()
        if present():
            return True
        for command in (["update"], ["install", "--yes", "--no-install-recommends", package]):
            subprocess.run(["apt-get", "-qq", *command], env=environment, capture_output=True, check=False)
        postgres_programs.cache_clear()
        return present()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def as_server_user(*command: str | Path) -> list[str]:
    """A command as the user that Postgres may run as, which dies with this process."""
    run = ["setpriv", "--pdeathsig=INT"]
    if os.geteuid() == 0:
        run += [f"--reuid={_USER}", f"--regid={_USER}", "--init-groups"]
    return [*run, "--", *map(str, command)]


def in_memory() -> Path | None:
    """A folder whose files are in memory, with a gigabyte left, where an fsync is made but costs nothing."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and shutil.disk_usage(shared).free > 1 << 30 else None


class Cluster:
    """One Postgres server.

    Args:
        options: settings of the server, such as `max_connections=20`, beside those of a stock server.
        parent: where its folder is made.
        data: an empty folder for its data, instead of one in its own folder.
        initdb: more arguments for `initdb`.
    """

    def __init__(
        self, programs: Path | None = None, options: Sequence[str] = (), parent: Path | None = None,
        data: Path | None = None, initdb: Sequence[str] = (),
    ) -> None:  # fmt: skip
        found = programs or postgres_programs()
        if found is None:
            raise FileNotFoundError("Postgres is not installed here (Debian: apt install postgresql)")
        self._programs = found
        self._options = options
        self._server: subprocess.Popen[bytes] | None = None
        self._names = 0
        self.port = free_port()
        self.directory = Path(mkdtemp(prefix="aob-postgres-", dir=parent))
        self.data = data or self.directory / "data"
        self.log = self.directory / "log"
        self.directory.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(self.directory, _USER, _USER)
        how = ("-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", *initdb)
        self._run("initdb", "-D", self.data, *how)

    def start(self) -> None:
        """Start it, and wait until it answers. A server that was killed recovers."""
        settings = ("fsync=on", "synchronous_commit=on", "listen_addresses=127.0.0.1", *self._options)
        command = [self._programs / "postgres", "-D", self.data, "-p", str(self.port), "-k", self.directory]
        for setting in settings:
            command += ["-c", setting]
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(as_server_user(*command), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._wait()

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._server is not None
        return self._server.pid

    def runs(self) -> bool:
        """Whether it was started and has not ended, be it by itself."""
        return self._server is not None and self._server.poll() is None

    def answers(self) -> bool:
        """Whether clients can connect to it."""
        ready = as_server_user(self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
        return subprocess.run(ready, check=False, cwd="/").returncode == 0

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends every connection, SIGQUIT and SIGKILL end it as a crash would. Its data stays."""
        server, self._server = self._server, None
        if server is not None:
            server.send_signal(how)
            try:
                server.wait(_PATIENCE)
            except subprocess.TimeoutExpired:  # as when a back end does not end
                server.send_signal(signal.SIGQUIT)
                server.wait(_PATIENCE)

    def remove(self) -> None:
        """Stop it and delete its data, which it need not bring into order before."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str = _USER, user: str = _USER) -> str:
        """How a program connects to it."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def sql(self, text: str, database: str = _USER) -> str:
        """What `psql` answers to these statements, as plain text."""
        return self._run("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", _USER, "-d", database,
                         "-v", "ON_ERROR_STOP=1", "-Atqc", text).strip()  # fmt: skip

    def dump(self) -> str:
        """All that is in it, as SQL."""
        return self._run("pg_dump", "-h", "127.0.0.1", "-p", str(self.port), "-U", _USER)

    def fresh_name(self) -> str:
        """A name for a database or schema that none has yet."""
        self._names += 1
        return f"fresh_{self._names}"

    def fresh(self, database: str) -> str:
        """Make an empty database, in place of one of this name; its URL."""
        self.sql(f"drop database if exists {database} with (force)")
        self.sql(f"create database {database}")
        return self.url(database)

    def drop(self, database: str) -> None:
        """Delete a database, whoever is connected."""
        self.sql(f"drop database if exists {database} with (force)")

    def _run(self, program: str, *args: str | Path) -> str:
        command = as_server_user(self._programs / program, *args)
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr}")
        return done.stdout

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not self.answers():
            if not self.runs() or time.monotonic() > deadline:
                raise RuntimeError(f"Postgres did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)


def pgbouncer_program() -> str | None:
    """PgBouncer, where it is installed."""
    return shutil.which("pgbouncer", path=f"/usr/sbin:{os.environ.get('PATH', '')}")


class Pooler:
    """PgBouncer in transaction mode before a cluster: each transaction may get another connection."""

    def __init__(self, cluster: Cluster) -> None:
        program = pgbouncer_program()
        if program is None:
            raise FileNotFoundError("PgBouncer is not installed here (Debian: apt install pgbouncer)")
        self._program = program
        self._cluster = cluster
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        config = self._cluster.directory / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={self._cluster.port} user={_USER}\n[pgbouncer]\n"
            f"listen_addr=127.0.0.1\nlisten_port={self.port}\nauth_type=any\npool_mode=transaction\n"
            "default_pool_size=4\nmax_client_conn=500\nunix_socket_dir=\n"
        )
        config.chmod(0o644)
        self._process = subprocess.Popen(as_server_user(self._program, "-q", config), cwd="/")
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("PgBouncer did not start") from None
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_PATIENCE)

    def url(self, database: str = _USER) -> str:
        """How a program connects through it."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"
