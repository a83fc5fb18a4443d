"""Start the *external* ZEO server executable in place of ZEO's own test server.

``install(cfg)`` replaces ``ZEO._forker.start_zeo_server`` (and, through it,
``ZEO.tests.forker.start_zeo_server`` and ``ZEO.server``), so every server that
an upstream test asks for becomes a separate process started from the command
template (``/path/to/server -C {conf}``) with the very ZConfig file the test
generated.  It must be installed BEFORE anything of ``ZEO.tests`` is imported.

What differs from upstream's in-process runner:

* port 0 (``address 127.0.0.1:0``): a free port is chosen here and written in
  the conf, because there is no queue over which an external program could
  report the port it got.  Only the digit 0 is replaced, the rest of the line
  stays as the test wrote it (one test class writes ``127.0.0.1: 0``).
* ready: the listening socket is looked for in /proc/net/tcp{,6} (passive: the
  server sees no probing connection); unix sockets are tried with connect().
* stop: SIGTERM, then wait; SIGKILL after ``stop_timeout`` (noted as unclean).
* keep=False: upstream calls storage.cleanup() after the server closed; here
  the same files are removed (FileStorage.cleanup: path + '', .old, .tmp,
  .lock, .index, .pack), relative to the directory the server ran in.
* ``protocol=`` (an old protocol patched into the Python server) is refused:
  those tests are in the exclusion list.
* mappingstorage sections may be turned into filestorage sections on a fresh
  file (cfg['rewrite_mapping']).

Only clocks that tests do not fake are used here (time.monotonic).
"""
import atexit
import os
import random
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from time import monotonic, sleep

_Popen = subprocess.Popen      # before install() replaces it
CFG = {}
LIVE = []            # running ExtServer objects
NOTES = []           # notes on the present test (unclean stops, ...)
CONFS = []           # confs started during the present test
STARTED = 0          # servers started during the present test
_port = None


class ServerStartError(Exception):
    """The external server did not come up."""


def pick_port():
    """A free TCP port outside the ephemeral range and outside the range that
    ZEO.tests.forker.get_port uses (20000-30000), and in this job's own part."""
    global _port
    first, end = CFG.get('ports') or (10000, 19900)
    if _port is None:
        _port = random.SystemRandom().randrange(first, end)
    for _ in range(2000):
        _port += 1
        if _port >= end:
            _port = first
        ok = True
        for family, host in ((socket.AF_INET, '0.0.0.0'),
                             (socket.AF_INET6, '::')):
            try:
                with socket.socket(family, socket.SOCK_STREAM) as s:
                    if family == socket.AF_INET6:
                        s.setsockopt(socket.IPPROTO_IPV6,
                                     socket.IPV6_V6ONLY, 1)
                    s.bind((host, _port))
            except OSError as e:
                if family == socket.AF_INET6 and e.errno in (97, 99):
                    continue        # no IPv6 here
                ok = False
                break
        if ok:
            return _port
    raise ServerStartError('no free port found')


def _listening_tcp(port):
    want = ':%04X' % port
    for name in ('/proc/net/tcp', '/proc/net/tcp6'):
        try:
            with open(name) as f:
                next(f)
                for line in f:
                    parts = line.split()
                    if parts[3] == '0A' and parts[1].endswith(want):
                        return True
        except (OSError, StopIteration):
            pass
    return False


def _listening_unix(path):
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        try:
            s.connect(path)
        except OSError:
            return False
    return True


_addr_re = re.compile(r'^(?P<pre>[ \t]*address[ \t]+)(?P<val>\S.*?)[ \t]*$',
                      re.M)
_map_re = re.compile(
    r'<mappingstorage(?P<name>[ \t]+[^\s/>]+)?[ \t]*'
    r'(?:/>|>\s*</mappingstorage>)')
_fs_re = re.compile(r'<filestorage(?:[ \t]+[^\s>]+)?>(.*?)</filestorage>',
                    re.S)
_path_re = re.compile(r'^[ \t]*path[ \t]+(\S.*?)[ \t]*$', re.M)


def rewrite_mapping(conf):
    def sub(m):
        fd, path = tempfile.mkstemp('.fs', 'mapping-', dir=CFG['workdir'])
        os.close(fd)
        os.unlink(path)
        return '<filestorage{}>\n  path {}\n</filestorage>'.format(
            m.group('name') or '', path)
    return _map_re.sub(sub, conf)


class ExtServer:

    def __init__(self, conf, keep):
        global STARTED
        STARTED += 1
        self.keep = keep
        self.cwd = os.getcwd()
        self.clean = None
        # -- address -----------------------------------------------------
        m = _addr_re.search(conf)
        if not m:
            raise ServerStartError('no address in the conf')
        val = m.group('val')
        m0 = re.match(r'^(.*:\s*)0$', val)
        if m0 or val == '0':
            val = (m0.group(1) if m0 else '') + str(pick_port())
            conf = conf[:m.start('val')] + val + conf[m.end('val'):]
        from ZConfig.datatypes import SocketBindingAddress
        parsed = SocketBindingAddress(val)
        self.family, self.addr = parsed.family, parsed.address
        if CFG.get('rewrite_mapping'):
            conf = rewrite_mapping(conf)
        self.conf = conf
        CONFS.append(conf)
        self.paths = []
        for block in _fs_re.findall(conf):
            p = _path_re.search(block)
            if p:
                self.paths.append(os.path.join(self.cwd, p.group(1)))

    def start(self, timeout):
        fd, self.confpath = tempfile.mkstemp(
            '.conf', prefix='server-', dir=CFG['workdir'])
        with os.fdopen(fd, 'w') as f:
            f.write(self.conf)
        self.logpath = self.confpath[:-5] + '.out'
        argv = [a.replace('{conf}', self.confpath)
                for a in shlex.split(CFG['server_cmd'])]
        env = dict(os.environ)
        env.update(CFG.get('server_env') or {})
        # a restart on the same port: wait until the port is free again
        with open(self.logpath, 'wb') as out:
            self.proc = _Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, cwd=self.cwd, env=env)
        LIVE.append(self)
        deadline = monotonic() + timeout
        pause = 0.002
        while True:
            if isinstance(self.addr, str):
                up = _listening_unix(os.path.join(self.cwd, self.addr))
            else:
                up = _listening_tcp(self.addr[1])
            rc = self.proc.poll()
            if rc is not None:
                LIVE.remove(self)
                raise ServerStartError(
                    'server exited with %s at start\nconf:\n%s\noutput:\n%s'
                    % (rc, self.conf, self.output()))
            if up:
                return
            if monotonic() > deadline:
                self.kill()
                raise ServerStartError(
                    'server did not listen on %r within %ss\nconf:\n%s\n'
                    'output:\n%s'
                    % (self.addr, timeout, self.conf, self.output()))
            sleep(pause)
            pause = min(pause * 1.5, 0.05)

    def output(self, n=4000):
        try:
            with open(self.logpath, 'rb') as f:
                data = f.read()
        except OSError:
            return ''
        return data[-n:].decode('utf-8', 'replace')

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        if self in LIVE:
            LIVE.remove(self)

    crashed = False

    def crash(self):
        """kill -9, as a test wants it."""
        self.crashed = True
        self.proc.kill()
        self.proc.wait()

    def stop(self, stop_timeout=10):
        if self not in LIVE:
            return                      # stopped already; upstream tolerates it
        died = self.proc.poll()
        if self.crashed:
            LIVE.remove(self)
        elif died is not None:
            LIVE.remove(self)
            NOTES.append('server died by itself with status %s: %s'
                         % (died, self.output(1500)))
        else:
            self.proc.send_signal(signal.SIGTERM)
            try:
                # plain polling: Popen.wait(timeout) is fine too, but this
                # does not depend on the time module the tests may fake
                deadline = monotonic() + min(stop_timeout,
                                             CFG.get('stop_timeout', 10))
                pause = 0.002
                while self.proc.poll() is None:
                    if monotonic() > deadline:
                        raise TimeoutError
                    sleep(pause)
                    pause = min(pause * 1.5, 0.05)
            except TimeoutError:
                NOTES.append('server ignored SIGTERM; killed')
                self.kill()
            else:
                LIVE.remove(self)
                if self.proc.returncode not in (0, -signal.SIGTERM):
                    NOTES.append('exit status %s after SIGTERM: %s' % (
                        self.proc.returncode, self.output(1500)))
        if not self.keep:
            for path in self.paths:
                for ext in '', '.old', '.tmp', '.lock', '.index', '.pack':
                    try:
                        os.remove(path + ext)
                    except OSError:
                        pass
        try:
            os.remove(self.confpath)
        except OSError:
            pass


def start_zeo_server(storage_conf=None, zeo_conf=None, port=None, keep=False,
                     path='Data.fs', protocol=None, blob_dir=None,
                     suicide=True, debug=False,
                     threaded=False, start_timeout=33, name=None, log=None,
                     show_config=False):
    """Same signature and same conf text as ZEO._forker.start_zeo_server."""
    from ZEO._forker import ZEOConfig

    if protocol:
        raise ServerStartError('protocol=%r needs the in-process server'
                               % protocol)
    # --- from here: as upstream ------------------------------------------
    if not storage_conf:
        storage_conf = '<filestorage>\npath %s\n</filestorage>' % path

    if blob_dir:
        storage_conf = (f'<blobstorage>\nblob-dir {blob_dir}\n'
                        f'{storage_conf}\n</blobstorage>')

    if zeo_conf is None or isinstance(zeo_conf, dict):
        if port is None:
            port = 0

        if isinstance(port, int):
            addr = '127.0.0.1', port
        else:
            addr = port

        z = ZEOConfig(addr, log=log)
        if zeo_conf:
            z.__dict__.update(zeo_conf)
        zeo_conf = str(z)

    zeo_conf = str(zeo_conf) + '\n\n' + storage_conf
    if show_config:
        print(zeo_conf)
    # --- to here ---------------------------------------------------------

    server = ExtServer(zeo_conf, keep)
    server.start(min(start_timeout, CFG.get('start_timeout', 15)))
    return server.addr, server.stop


def server_prefix():
    """The server command without ``-C {conf}``: for tests that run the
    program with options of their own."""
    out = []
    argv = shlex.split(CFG['server_cmd'])
    i = 0
    while i < len(argv):
        a = argv[i]
        if a in ('-C', '--configure') and i + 1 < len(argv) \
                and '{conf}' in argv[i + 1]:
            i += 2
            continue
        if '{conf}' in a:
            i += 1
            continue
        out.append(a)
        i += 1
    return out


def kill_leftovers():
    """Kill servers a test has left behind; returns how many there were."""
    n = 0
    for s in list(LIVE):
        n += 1
        try:
            s.kill()
        except Exception:
            pass
    return n


def install(cfg):
    CFG.update(cfg)
    import ZEO._forker
    ZEO._forker.start_zeo_server = start_zeo_server
    atexit.register(kill_leftovers)

    # Two upstream doctests write a small script that calls
    # ZEO.runzeo.main() and run it with sys.executable ('runzeo' resp. 's' as
    # script name). The external program takes the place of that script.
    real = subprocess.Popen

    class Popen(real):
        def __init__(self, args, *a, **kw):
            if (isinstance(args, (list, tuple)) and len(args) > 1
                    and args[0] == sys.executable
                    and args[1] in ('runzeo', 's')
                    and os.path.exists(args[1])):
                args = server_prefix() + list(args[2:])
                env = dict(kw.get('env') or os.environ)
                env.update(CFG.get('server_env') or {})
                kw['env'] = env
            real.__init__(self, args, *a, **kw)

    subprocess.Popen = Popen
