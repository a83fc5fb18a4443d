#!/usr/bin/env python3
"""Run ZEO's and ZODB's own test suites against an external ZEO server.

    python3 conformance/run_conformance.py [--quick]
        [--server-cmd '/path/to/server -C {conf}'] [--jobs N]
        [--suite NAME ...] [--class NAME ...] [-k SUBSTRING ...]
        [--ids-file FILE ...] [--protocol pickle|msgpack|both]
        [--timeout S] [--json out.json] [--include CATEGORY ...]

Every server that a test starts is that command, in a process of its own, with
{conf} replaced by the path of the ZConfig file the test generated.  For the
msgpack runs ZEO_MSGPACK=1 is in the server's environment, as upstream does it.

expected-failures.txt lists what is known to fail and why; a run fails if
anything else fails, and also if a test of the list passes.

Exit status: 0 if all selected tests did as expected (skips allowed), 1 if not,
2 on usage errors.
"""
import argparse
import collections
import concurrent.futures
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
EXPECTED = os.path.join(HERE, 'expected-failures.txt')
UNIT_SIZE = 16          # tests in one worker process: units end evenly


def find_python(arg):
    cands = [arg] if arg else [
        os.environ.get('CONFORMANCE_PYTHON'),
        os.path.join(ROOT, '.venv', 'bin', 'python'), sys.executable]
    for c in cands:
        if not c:
            continue
        try:
            if subprocess.run([c, '-c', 'import ZEO.tests.testZEO'],
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL,
                              cwd=tempfile.gettempdir()).returncode == 0:
                return c
        except OSError:
            pass
    sys.exit('no Python with ZEO 6.2 and its tests found; run '
             'tests/python/setup_venv.py, or name one with --python')


def default_server():
    """$ZEOLITH_SERVER_CMD, or this project's own program."""
    cmd = os.environ.get('ZEOLITH_SERVER_CMD')
    if not cmd:
        target = os.environ.get('CARGO_TARGET_DIR',
                                os.path.join(ROOT, 'target'))
        for kind in 'release', 'debug':
            cmd = os.path.join(target, kind, 'runzeo')
            if os.path.exists(cmd):
                break
        else:
            return None
        cmd = shlex.quote(cmd)
    return cmd if '{conf}' in cmd else cmd + ' -C {conf}'


class Expected:
    """expected-failures.txt: what fails, and why.

    A line is `id [norun] reason`. An id that ends in `*` is a whole suite that
    is not built; such a suite, and the ids marked norun (they would cost
    minutes of waiting), are run only if asked for with --suite, --class or -k.
    """

    def __init__(self, path):
        self.reasons = {}
        self.norun = set()
        self.suites = []
        with open(path) as f:
            for n, line in enumerate(f, 1):
                line = line.strip()
                if not line or line.startswith('#'):
                    continue
                pattern, _, reason = line.partition(' ')
                reason = reason.strip()
                norun = reason.startswith('norun ')
                reason = reason[6:].strip() if norun else reason
                if not reason:
                    sys.exit('%s:%d: %s has no reason' % (path, n, pattern))
                if '*' in pattern:
                    self.suites.append(pattern)
                else:
                    self.reasons[pattern] = reason
                    if norun:
                        self.norun.add(pattern)

    def is_left_out(self, testid):
        return testid in self.norun or any(
            fnmatch.fnmatchcase(testid, s) for s in self.suites)

    def unknown(self, known):
        return [i for i in self.reasons if i not in known] + [
            s for s in self.suites if not fnmatch.filter(known, s)]


def worker_env():
    env = dict(os.environ)
    for name in 'ZEO_MSGPACK', 'ZEO_SERVER_PROTOCOL', 'INSTANCE_HOME':
        env.pop(name, None)
    env['PYTHONHASHSEED'] = '0'
    env['PYTHONDONTWRITEBYTECODE'] = '1'
    return env


def get_list(python, include):
    cmd = [python, os.path.join(HERE, 'confworker.py'), '--list']
    cmd.append(','.join(include))
    p = subprocess.run(cmd, stdout=subprocess.PIPE, env=worker_env(),
                       cwd=tempfile.gettempdir())
    if p.returncode:
        sys.exit('cannot list the tests')
    return json.loads(p.stdout)


def read_ids(path):
    with open(path) as f:
        return [line.strip() for line in f
                if line.strip() and not line.startswith('#')]


class Unit:
    """Runs one (protocol, suite, class) in a worker process."""

    def __init__(self, args, python, protocol, key, ids, root, ports,
                 limit=None):
        self.args, self.python, self.protocol = args, python, protocol
        self.ports = ports      # that its servers may use
        self.limit = limit      # seconds for one test, instead of its own
        self.key, self.ids = key, ids
        self.dir = tempfile.mkdtemp(
            prefix=re.sub(r'\W+', '_', key)[:60] + '-', dir=root)
        self.results = {}

    def run(self, report):
        todo = list(self.ids)
        n = 0
        timeouts = 0
        while todo:
            n += 1
            events = os.path.join(self.dir, 'events-%d.jsonl' % n)
            spec = dict(
                ids=todo, events=events, protocol=self.protocol,
                workdir=os.path.join(self.dir, 'w%d' % n),
                server_cmd=self.args.server_cmd, timeout=self.args.timeout,
                limit=self.limit, ports=self.ports,
                rewrite_mapping=not self.args.no_rewrite_mapping,
                include=self.args.include,
                server_env=self.server_env(),
                stress_seconds=self.args.stress_seconds,
                start_timeout=self.args.start_timeout,
                stop_timeout=self.args.stop_timeout, confs=True)
            specpath = os.path.join(self.dir, 'spec-%d.json' % n)
            with open(specpath, 'w') as f:
                json.dump(spec, f)
            open(events, 'w').close()
            done, current = self._one(specpath, events, n, report)
            if current is not None:
                # the worker died or hung in this test
                self.results[current['id']] = current
                report(current)
                done.append(current['id'])
            todo = [i for i in todo if i not in self.results]
            timeouts = sum(r['status'] == 'timeout'
                           for r in self.results.values())
            if timeouts >= self.args.max_timeouts and todo:
                for i in todo:
                    r = dict(id=i, status='notrun', time=0, notes=[],
                             detail='class given up after %d timeouts'
                             % timeouts)
                    self.results[i] = r
                    report(r)
                todo = []
            if not done and todo:
                # the worker cannot even start
                for i in todo:
                    r = dict(id=i, status='errored', time=0, notes=[],
                             detail='worker did not run: '
                             + self.tail(n))
                    self.results[i] = r
                    report(r)
                todo = []
        if not self.args.keep_logs:
            shutil.rmtree(self.dir, ignore_errors=True)
        return self.results

    def server_env(self):
        # Suites whose classes are for the server to resolve. A Python beside
        # each of the many servers of the other suites would cost minutes.
        if 'server-python-cr' not in self.key:
            return {}
        return {'ZEOLITH_CONFLICT_RESOLVER': os.environ.get(
            'ZEOLITH_CONFLICT_RESOLVER', self.python)}

    def tail(self, n):
        try:
            with open(os.path.join(self.dir, 'worker-%d.log' % n), 'rb') as f:
                return f.read()[-3000:].decode('utf-8', 'replace')
        except OSError:
            return ''

    def _one(self, specpath, events, n, report):
        log = open(os.path.join(self.dir, 'worker-%d.log' % n), 'wb')
        p = subprocess.Popen(
            [self.python, os.path.join(HERE, 'confworker.py'), specpath],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env=worker_env(), cwd=self.dir, start_new_session=True)
        done = []
        current = None
        started = time.monotonic()
        pos = 0
        buf = ''
        try:
            with open(events) as f:
                while True:
                    ended = p.poll() is not None
                    buf += f.read()
                    while '\n' in buf:
                        line, buf = buf.split('\n', 1)
                        ev = json.loads(line)
                        if ev['ev'] == 'start':
                            current = ev
                            started = time.monotonic()
                        else:
                            del ev['ev']
                            self.results[ev['id']] = ev
                            done.append(ev['id'])
                            report(ev)
                            current = None
                    if ended:
                        break
                    if current and (time.monotonic() - started
                                    > current['limit'] + 20):
                        break
                    if not current and time.monotonic() - started > 60:
                        break
                    time.sleep(0.02)
        finally:
            try:
                os.killpg(p.pid, signal.SIGKILL)   # worker and its servers
            except OSError:
                pass
            p.wait()
            log.close()
        if current is not None:
            hung = p.returncode == -signal.SIGKILL
            current = dict(
                id=current['id'], status='timeout' if hung else 'errored',
                time=round(time.monotonic() - started, 3), notes=[],
                detail=('hung, worker killed\n' if hung else
                        'worker died with status %s\n' % p.returncode)
                + self.tail(n))
        return done, current


def table(rows, header):
    widths = [max(len(str(r[i])) for r in rows + [header])
              for i in range(len(header))]
    def line(r):
        return '  '.join(str(c).ljust(w) if i < 3 else str(c).rjust(w)
                         for i, (c, w) in enumerate(zip(r, widths)))
    print(line(header))
    print('  '.join('-' * w for w in widths))
    for r in rows:
        print(line(r))


def main():
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--server-cmd', help="e.g. '/path/to/server -C {conf}' "
                    "(default: $ZEOLITH_SERVER_CMD, else target/*/runzeo)")
    ap.add_argument('--jobs', type=int, metavar='N',
                    default=min(4, os.cpu_count() or 1),
                    help='classes that run at the same time')
    ap.add_argument('--expected-failures', metavar='FILE', default=EXPECTED,
                    help="'' for none")
    ap.add_argument('--expected-timeout', type=float, default=10,
                    help='seconds for a test that is expected to fail')
    ap.add_argument('--suite', action='append', default=[], metavar='NAME')
    ap.add_argument('--class', dest='cls', action='append', default=[],
                    metavar='NAME')
    ap.add_argument('-k', action='append', default=[], metavar='SUBSTRING',
                    help='only ids that contain this (any of them)')
    ap.add_argument('--ids-file', action='append', default=[])
    ap.add_argument('--protocol', default='both',
                    choices=['pickle', 'msgpack', 'both'])
    ap.add_argument('--full', action='store_true',
                    help='all tests of all suites, in both encodings')
    ap.add_argument('--quick', action='store_true',
                    help='the ids of quick.txt: a minute at most')
    ap.add_argument('--include', action='append', default=[],
                    metavar='CATEGORY',
                    help='also all of this suite, or of this category of '
                    'excluded tests')
    ap.add_argument('--timeout', type=float, default=30,
                    help='seconds for one test (some have more, see suites.py)')
    ap.add_argument('--start-timeout', type=float, default=15)
    ap.add_argument('--stop-timeout', type=float, default=10)
    ap.add_argument('--max-timeouts', type=int, default=8,
                    help='give a class up after so many timeouts')
    ap.add_argument('--stress-seconds', type=float, default=5,
                    help='MINTIME of the InvalidationTests (upstream: 10)')
    ap.add_argument('--no-rewrite-mapping', action='store_true')
    ap.add_argument('--json', metavar='FILE')
    ap.add_argument('--baseline', metavar='FILE',
                    help='a JSON of an earlier run: print what changed')
    ap.add_argument('--keep-logs', metavar='DIR')
    ap.add_argument('--python')
    ap.add_argument('--list', action='store_true')
    ap.add_argument('--list-suites', action='store_true')
    ap.add_argument('--list-excluded', action='store_true')
    ap.add_argument('-v', '--verbose', action='store_true',
                    help='print every test; with -vv style detail of failures')
    ap.add_argument('--details', action='store_true',
                    help='print the traceback of each failure at the end')
    args = ap.parse_args()

    python = find_python(args.python)
    info = get_list(python, args.include)
    tests = info['tests']

    if args.list_excluded:
        by = collections.defaultdict(list)
        for e in info['excluded']:
            by[e['category']].append(e)
        for cat, (runnable, reason) in info['categories'].items():
            es = by.get(cat, [])
            print('\n%s: %d tests%s\n  %s' % (
                cat, len(es), ' (runnable with --include)' if runnable else '',
                reason))
            groups = collections.OrderedDict()
            for e in es:
                groups.setdefault((e['module'], e['cls'], e['note']),
                                  []).append(e['name'])
            for (m, c, note), names in groups.items():
                if len(names) > 8:
                    names = ['%d tests' % len(names)]
                print('  - %s %s: %s%s' % (m, c, ', '.join(names),
                                           ' [%s]' % note if note else ''))
        return 0

    bad = set(args.include) - {t['suite'] for t in tests}
    if bad:
        print('%s cannot be included; see --list-excluded' % ', '.join(
            sorted(bad)), file=sys.stderr)
        return 2

    known = {t['id']: t for t in tests}
    expected = Expected(args.expected_failures or os.devnull)
    gone = expected.unknown(list(known))
    if gone and not args.include:
        print('%s: no such test: %s' % (args.expected_failures, gone[0]),
              file=sys.stderr)
        return 2
    sel = tests
    if args.protocol != 'both':
        sel = [t for t in sel if t['protocol'] == args.protocol]
    if args.suite:
        bad = set(args.suite) - {t['suite'] for t in tests}
        if bad:
            print('unknown suite: %s; there are: %s' % (
                ', '.join(sorted(bad)),
                ', '.join(sorted({t['suite'] for t in tests}))),
                file=sys.stderr)
            return 2
        sel = [t for t in sel if t['suite'] in args.suite]
    if args.cls:
        sel = [t for t in sel if t['cls'] in args.cls]
    if args.k:
        sel = [t for t in sel if any(k in t['id'] for k in args.k)]
    files = list(args.ids_file)
    default = os.path.join(HERE, 'default.txt')
    if args.quick:
        files.append(os.path.join(HERE, 'quick.txt'))
    elif not files and not args.full and not args.k:
        files.append(default)
    if files:
        want = set()
        for f in files:
            ids = read_ids(f)
            gone = [i for i in ids if i not in known]
            if args.include and f == default:
                want.update(t['id'] for t in tests
                            if t['suite'] in args.include)
            if gone:
                print('%s: %d unknown ids, e.g. %s' % (f, len(gone), gone[0]),
                      file=sys.stderr)
            want.update(ids)
        sel = [t for t in sel if t['id'] in want]

    if not args.full and not args.k and not args.quick:
        sel = [t for t in sel if t['core'] or t['suite'] in args.include]

    left_out = set()
    if args.quick:
        left_out.update(t['id'] for t in sel if t['id'] in expected.reasons)
    if not (args.suite or args.cls or args.k):
        left_out.update(t['id'] for t in sel
                        if expected.is_left_out(t['id']))
    sel = [t for t in sel if t['id'] not in left_out]

    if args.list:
        for t in sel:
            print(t['id'])
        return 0
    if args.list_suites:
        c = collections.Counter((t['suite'], t['cls'], t['protocol'])
                                for t in sel)
        for k, n in c.items():
            print('%-14s %-40s %-8s %4d' % (k + (n,)))
        return 0
    if not sel:
        print('no test selected', file=sys.stderr)
        return 2
    args.server_cmd = args.server_cmd or default_server()
    if not args.server_cmd:
        print('no server: build one (cargo build --release), or name one '
              'with --server-cmd', file=sys.stderr)
        return 2
    argv = shlex.split(args.server_cmd)
    if not any('{conf}' in a for a in argv):
        print('--server-cmd must contain {conf}', file=sys.stderr)
        return 2
    prog = shutil.which(argv[0])
    if not prog:
        print('no such program: %s' % argv[0], file=sys.stderr)
        return 2
    # the servers run in temporary directories
    argv = [os.path.abspath(a) if os.sep in a and '{conf}' not in a
            and os.path.exists(a) else a for a in argv]
    args.server_cmd = shlex.join(argv).replace("'{conf}'", '{conf}')

    if args.keep_logs:
        os.makedirs(args.keep_logs, exist_ok=True)
        root = os.path.abspath(args.keep_logs)
    else:
        root = tempfile.mkdtemp(prefix='zeoconf-')

    classes = collections.OrderedDict()
    for t in sel:
        classes.setdefault((t['protocol'], t['suite'], t['cls'],
                            t['id'] in expected.reasons), []).append(t['id'])
    units = [(key, ids[i:i + UNIT_SIZE]) for key, ids in classes.items()
             for i in range(0, len(ids), UNIT_SIZE)]
    # what takes longest starts first
    units.sort(key=lambda u: -sum(weight(i) for i in u[1]))

    results = {}
    t0 = time.monotonic()
    seconds = collections.Counter()
    mark = dict(passed='.', failed='F', errored='E', skipped='s',
                timeout='T', notrun='-')
    said = threading.Lock()
    slots = list(port_ranges(max(1, args.jobs)))

    def run_unit(key, ids):
        proto, suite, cls, is_expected = key
        marks = []

        def report(r):
            marks.append(mark[r['status']])
            if args.verbose:
                with said:
                    print('%-8s %6.2fs %s%s' % (
                        r['status'], r['time'], r['id'],
                        ''.join('\n      note: ' + x.splitlines()[0][:200]
                                for x in r['notes'])), flush=True)

        t1 = time.monotonic()
        ports = slots.pop()
        try:
            u = Unit(args, python, proto, '-'.join((proto, suite, cls)), ids,
                     root, ports, args.expected_timeout if is_expected
                     else None)
            res = u.run(report)
        finally:
            slots.append(ports)
        with said:
            results.update(res)
            seconds[proto, suite, cls] += time.monotonic() - t1
            if not args.verbose:
                print('%-60s %s %.0fs' % (
                    '%s %s %s%s' % (proto, suite, cls, ' (expected to fail)'
                                    if is_expected else ''),
                    ''.join(marks), time.monotonic() - t1), flush=True)

    try:
        with concurrent.futures.ThreadPoolExecutor(max(1, args.jobs)) as pool:
            futures = [pool.submit(run_unit, *u) for u in units]
            try:
                for f in futures:
                    f.result()
            except BaseException:
                for f in futures:
                    f.cancel()
                raise
    except KeyboardInterrupt:
        print('\ninterrupted', file=sys.stderr)
    finally:
        if not args.keep_logs:
            shutil.rmtree(root, ignore_errors=True)

    rows = []
    for proto, suite, cls in collections.OrderedDict.fromkeys(
            k[:3] for k in classes):
        got = [results[t['id']] for t in sel if t['id'] in results and
               (t['protocol'], t['suite'], t['cls']) == (proto, suite, cls)]
        c = collections.Counter(r['status'] for r in got)
        rows.append((proto, suite, cls, len(got), c['passed'], c['failed'],
                     c['errored'], c['timeout'] + c['notrun'], c['skipped'],
                     '%.1f' % seconds[proto, suite, cls]))

    elapsed = time.monotonic() - t0
    print()
    tot = [sum(r[i] for r in rows) for i in range(3, 9)]
    table(rows + [('total', '', '') + tuple(tot) + ('%.1f' % elapsed,)],
          ('protocol', 'suite', 'class', 'tests', 'passed', 'failed',
           'errored', 'timeout', 'skipped', 'seconds'))

    # by area: the mixin class that defines the test
    areas = collections.OrderedDict()
    for t in sel:
        r = results.get(t['id'])
        if r:
            a = areas.setdefault(t['area'], [0, 0])
            a[0] += 1
            a[1] += r['status'] in ('passed', 'skipped')
    bad_areas = [(k, v) for k, v in areas.items() if v[0] != v[1]]
    if bad_areas:
        print('\nareas with failures (passed/all):')
        for k, (n, ok) in bad_areas:
            print('  %-45s %d/%d' % (k, ok, n))

    bad = [results[t['id']] for t in sel
           if t['id'] in results and t['id'] not in expected.reasons
           and results[t['id']]['status'] not in ('passed', 'skipped')]
    mended = [t['id'] for t in sel
              if t['id'] in expected.reasons and t['id'] in results
              and results[t['id']]['status'] == 'passed']
    missing = [t['id'] for t in sel if t['id'] not in results]
    if mended:
        print('\nlisted as failing, but they pass; remove them from %s:'
              % os.path.basename(args.expected_failures))
        for i in mended:
            print('  ' + i)
    if missing:
        print('\nnot run:')
        for i in missing:
            print('  ' + i)
    if bad:
        print('\nfailing tests:')
        for r in bad:
            print('  %-8s %s' % (r['status'], r['id']))
    noted = [r for r in results.values() if r.get('notes')]
    if noted:
        print('\nserver notes (not counted as failures):')
        for r in noted[:40]:
            for x in r['notes']:
                print('  %s: %s' % (r['id'], x.splitlines()[0][:160]))
        if len(noted) > 40:
            print('  ... and %d more tests' % (len(noted) - 40))
    if args.details:
        for r in bad:
            print('\n' + '=' * 70 + '\n%s %s\n%s' % (
                r['status'], r['id'], r['detail']))
    if args.baseline:
        with open(args.baseline) as f:
            old = json.load(f)['results']
        ok = ('passed', 'skipped')
        lost = [i for i, r in results.items() if i in old
                and old[i]['status'] in ok and r['status'] not in ok]
        won = [i for i, r in results.items() if i in old
               and old[i]['status'] not in ok and r['status'] in ok]
        print('\nagainst %s: %d now pass, %d no longer pass' % (
            args.baseline, len(won), len(lost)))
        for i in won:
            print('  + ' + i)
        for i in lost:
            print('  - ' + i)
    if args.json:
        with open(args.json, 'w') as f:
            json.dump(dict(
                server_cmd=args.server_cmd, elapsed=round(elapsed, 1),
                total=len(sel), passed=tot[1], failed=tot[2], errored=tot[3],
                timeout=tot[4], skipped=tot[5],
                rows=rows, results=results), f, indent=1)
    as_listed = sum(t['id'] in expected.reasons and t['id'] in results
                    for t in sel) - len(mended)
    skipped = sum(r['status'] == 'skipped' for i, r in results.items()
                  if i not in expected.reasons)
    wrong = len(bad) + len(mended) + len(missing)
    print('\n%d fail as listed, %d are left out (not built yet; see %s)' % (
        as_listed, len(left_out), os.path.basename(args.expected_failures)))
    print('%d passed, %d failed, %d skipped' % (
        len(sel) - wrong - skipped - as_listed, wrong, skipped))
    return 1 if wrong else 0


def weight(testid):
    """About how long a test takes, in tests of the ordinary kind."""
    if ':stress:' in testid or 'race' in testid.lower():
        return 10
    return 3 if ':reconnect:' in testid or ':timeout:' in testid else 1


def port_ranges(n):
    """A part of the ports for each of n jobs, so that no two meet."""
    size = 9900 // n
    for i in range(n):
        yield 10000 + i * size, 10000 + (i + 1) * size


if __name__ == '__main__':
    sys.exit(main())
