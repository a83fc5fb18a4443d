"""Servers under measurement: each a process of ours on loopback, in a folder of its own, ended by its pid."""
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time

CONFIGURATION = """\
<zeo>
  address 127.0.0.1:{port}
  msgpack true
</zeo>
<filestorage 1>
  path {folder}/Data.fs
</filestorage>
<eventlog>
  level info
  <logfile>
    path {folder}/server.log
  </logfile>
</eventlog>
"""


class Server:
    """One server from a command, in which {conf}, {port} and {folder} are filled in."""

    def __init__(self, name, command, work, prefix=()):
        self.name, self.command, self.work, self.prefix = name, command, work, list(prefix)
        self.process = None

    def start(self, template=None, index=True, copy=True, timeout=120):
        """Starts it on a copy of the template's Data.fs, or on another name of the very file."""
        self.folder = os.path.join(self.work, "%s-%d" % (self.name, time.time_ns()))
        os.makedirs(self.folder)
        if template:
            place = shutil.copy if copy else os.link
            place(os.path.join(template, "Data.fs"), os.path.join(self.folder, "Data.fs"))
            if index:
                shutil.copy(os.path.join(template, "Data.fs.index"), self.folder)
            os.sync()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = "127.0.0.1:%d" % self.port
        names = {"conf": os.path.join(self.folder, "zeo.conf"), "port": self.port, "folder": self.folder}
        with open(names["conf"], "w") as file:
            file.write(CONFIGURATION.format(**names))
        command = [word.format(**names) for word in shlex.split(self.command)]
        self.output = open(os.path.join(self.folder, "output"), "w+")
        begun = time.monotonic()
        self.process = subprocess.Popen(self.prefix + command, cwd=self.folder, stdout=self.output, stderr=self.output)
        self.pid = self.process.pid
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                self.check_alive(time.monotonic() - begun > timeout)
                time.sleep(0.001)
        self.start_s = time.monotonic() - begun
        return self

    def check_alive(self, out_of_time):
        if self.process.poll() is None and not out_of_time:
            return
        self.output.seek(0)
        said = self.output.read()[-2000:]
        self.stop()
        raise RuntimeError("%s does not listen: %s" % (self.name, said))

    def resident_mb(self):
        with open("/proc/%d/status" % self.pid) as lines:
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        self.output.close()
        shutil.rmtree(self.folder, ignore_errors=True)
