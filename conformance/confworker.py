"""Runs in the test venv: lists the tests, or runs a list of them, writing one
JSON line per event.  Started by run_conformance.py, one process per class."""
import gc
import io
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
import unittest
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

_monotonic = time.monotonic


def obey_permissions():
    """root ignores file permissions, and a ZODB test checks that a committed
    blob cannot be written: give up that privilege (CAP_DAC_OVERRIDE and
    CAP_DAC_READ_SEARCH) in this process; the servers are not touched."""
    if os.name != 'posix' or os.geteuid() != 0:
        return
    try:
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)

        class Header(ctypes.Structure):
            _fields_ = [('version', ctypes.c_uint32), ('pid', ctypes.c_int)]

        class Data(ctypes.Structure):
            _fields_ = [('eff', ctypes.c_uint32), ('perm', ctypes.c_uint32),
                        ('inh', ctypes.c_uint32)]

        head = Header(0x20080522, 0)
        data = (Data * 2)()
        if libc.capget(ctypes.byref(head), data):
            return
        data[0].eff &= ~((1 << 1) | (1 << 2))
        libc.capset(ctypes.byref(head), data)
    except Exception as e:
        print('cannot drop CAP_DAC_OVERRIDE: %s' % e, file=sys.stderr)

RESTART = 75            # exit status: start me again for the remaining tests


class TestTimeout(BaseException):
    """Raised in the main thread when a test exceeds its time."""


class Result(unittest.TestResult):

    def __init__(self):
        super().__init__()
        self.reset()

    def reset(self):
        self.status = 'passed'
        self.detail = ''

    def _set(self, status, detail):
        order = ['passed', 'skipped', 'failed', 'errored', 'timeout']
        if order.index(status) >= order.index(self.status):
            self.status = status
        self.detail += detail

    def _exc(self, err):
        return ''.join(traceback.format_exception(*err))[-6000:]

    def addError(self, test, err):
        if issubclass(err[0], TestTimeout):
            self._set('timeout', self._exc(err))
        else:
            self._set('errored', self._exc(err))

    def addFailure(self, test, err):
        self._set('failed', self._exc(err))

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self._set('failed', self._exc(err))

    def addSkip(self, test, reason):
        self._set('skipped', reason)

    def addExpectedFailure(self, test, err):
        pass

    def addUnexpectedSuccess(self, test):
        self._set('failed', 'unexpected success')


def make_ids(items, protocols=None, include=()):
    """Runnable items -> [(id, protocol, item)]; the order is stable."""
    import suites
    out = []
    for it in items:
        if it.category:
            if it.category not in include:
                continue
            if not suites.CATEGORIES[it.category][0]:
                continue
        protos = suites.PROTOCOLS.get(it.suite, suites.DEFAULT_PROTOCOLS)
        for p in protos:
            if protocols and p not in protocols:
                continue
            out.append(('%s:%s:%s.%s' % (p, it.suite, it.cls, it.name), p, it))
    return out


def list_tests(include):
    import suites
    items = suites.collect()
    sys.stdout.write(json.dumps({
        'tests': [dict(id=i, protocol=p, suite=it.suite, cls=it.cls,
                       name=it.name, area=it.area, module=it.module,
                       core=suites.is_core(i))
                  for i, p, it in make_ids(items, include=include)],
        'excluded': [dict(category=it.category, cls=it.cls, name=it.name,
                          module=it.module, note=it.note)
                     for it in items if it.category],
        'categories': suites.CATEGORIES,
    }))


def run(spec):
    import extserver
    out = open(spec['events'], 'a', buffering=1)

    def emit(**kw):
        out.write(json.dumps(kw) + '\n')

    obey_permissions()
    workdir = spec['workdir']
    protocol = spec['protocol']
    if protocol == 'msgpack':
        os.environ['ZEO_MSGPACK'] = '1'
    else:
        os.environ.pop('ZEO_MSGPACK', None)
    os.makedirs(workdir, exist_ok=True)
    base = os.path.join(workdir, 'cwd')
    os.makedirs(base, exist_ok=True)
    os.chdir(base)
    tempfile.tempdir = None
    os.environ['TMPDIR'] = os.path.join(workdir, 'tmp')
    os.makedirs(os.environ['TMPDIR'], exist_ok=True)
    warnings.simplefilter('ignore')

    extserver.install(dict(
        server_cmd=spec['server_cmd'], workdir=workdir,
        server_env=spec.get('server_env'),
        ports=spec.get('ports'),
        start_timeout=spec.get('start_timeout', 15),
        stop_timeout=spec.get('stop_timeout', 10),
        rewrite_mapping=False,
    ))

    # Which encoding did the connections of a test really use?
    import ZEO.asyncio.client
    seen = set()
    cp = ZEO.asyncio.client.Protocol
    orig = cp.finish_connection

    def finish_connection(self, protocol_version):
        seen.add(bytes(protocol_version[:1]))
        return orig(self, protocol_version)

    cp.finish_connection = finish_connection
    wanted = b'M' if protocol == 'msgpack' else b'Z'

    import suites
    from ZEO.tests import InvalidationTests
    InvalidationTests.InvalidationTests.MINTIME = spec.get('stress_seconds', 5)

    items = {i: it for i, p, it in make_ids(
        suites.collect(), include=spec.get('include') or ())}

    def on_alarm(*_):
        raise TestTimeout('test exceeded its time limit')

    signal.signal(signal.SIGALRM, on_alarm)

    real = (time.time, time.gmtime, time.sleep)
    failures = 0
    for testid in spec['ids']:
        it = items[testid]
        limit = (spec.get('limit')
                 or suites.timeout_for(testid, spec['timeout']))
        emit(ev='start', id=testid, limit=limit)
        extserver.NOTES.clear()
        extserver.CONFS.clear()
        extserver.STARTED = 0
        extserver.CFG['rewrite_mapping'] = (
            spec.get('rewrite_mapping', True)
            and it.suite != 'mappingstorage')
        seen.clear()
        result = Result()
        old_stdout = sys.stdout
        t0 = _monotonic()
        layer = it.layer
        try:
            if hasattr(layer, 'testSetUp'):
                layer.testSetUp()
            signal.setitimer(signal.ITIMER_REAL, limit)
            try:
                it.test.run(result)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                if hasattr(layer, 'testTearDown'):
                    layer.testTearDown()
        except TestTimeout:
            result._set('timeout', traceback.format_exc()[-6000:])
        except KeyboardInterrupt:
            raise
        except BaseException:
            result._set('errored', traceback.format_exc()[-6000:])
        elapsed = _monotonic() - t0
        time.time, time.gmtime, time.sleep = real
        sys.stdout = old_stdout

        notes = list(extserver.NOTES)
        status, detail = result.status, result.detail
        if (status == 'passed' and seen - {wanted}
                and 'test_runzeo_msgpack_support' not in testid):
            status = 'failed'
            detail = ('wrong encoding: the server offered %r, wanted %r '
                      '(ZEO_MSGPACK is %sset in its environment)'
                      % (sorted(seen), wanted,
                         '' if protocol == 'msgpack' else 'not '))
        logs = ''
        if status not in ('passed', 'skipped'):
            for s in extserver.LIVE:
                logs += '--- server output %s ---\n%s\n' % (
                    s.addr, s.output(2000))
        left = extserver.kill_leftovers()
        os.chdir(base)
        tempfile.tempdir = None
        try:
            import transaction
            transaction.abort()
            transaction.manager.clearSynchs()
        except Exception:
            pass
        emit(ev='end', id=testid, status=status, time=round(elapsed, 3),
             detail=(detail + logs)[-9000:], notes=notes, leftover=left,
             servers=extserver.STARTED,
             confs=extserver.CONFS if spec.get('confs') else [])
        # drop the test object, it may hold storages
        it.test.__dict__.clear()
        gc.collect()
        if status in ('failed', 'errored', 'timeout'):
            failures += 1
            # threads of a broken test go on reconnecting: start afresh
            if status == 'timeout' or failures >= 25 \
                    or threading.active_count() > 6:
                out.close()
                sys.stderr.flush()
                os._exit(RESTART)
    out.close()
    extserver.kill_leftovers()
    sys.stderr.flush()
    os._exit(0)


if __name__ == '__main__':
    if sys.argv[1] == '--list':
        list_tests(sys.argv[2].split(',') if len(sys.argv) > 2 else ())
    else:
        with open(sys.argv[1]) as f:
            spec = json.load(f)
        run(spec)
