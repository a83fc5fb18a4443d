"""Which upstream tests exist, which suite each belongs to, which are excluded.

Every test of ZEO's own test modules is collected (through the modules' own
``test_suite()``, so setUp/tearDown/doctest checkers are upstream's) and then
passes through RULES below: the first matching rule puts it in a suite or in an
exclusion category, with the reason.  Nothing is dropped silently: a test that
no rule matches is an error.  ``run_conformance.py --list-excluded`` prints the
exclusion list.
"""
import collections
import doctest
import importlib
import re
import unittest

# --------------------------------------------------------------------------
# Exclusion categories.  runnable=True: the tests can be run against an
# external server with ``--include CATEGORY`` (Python's runzeo passes them),
# they are out of the score because they ask for more than ZEO protocol 5 over
# FileStorage.  runnable=False: they never start a server program at all, or
# patch the one in the test process.
CATEGORIES = {
    'in-process-server': (
        False,
        'Builds ZEO.StorageServer/ZEOStorage/ZEOServer Python objects in the '
        'test process, or monkeypatches them; no server program is involved.'),
    'client-only': (
        False,
        'Tests Python client code (cache file, marshal, transaction buffer, '
        'asyncio client, ssl context arguments with mocks); no server is '
        'started, so it would pass whatever the server does.'),
    'old-protocol': (
        False,
        'Asks for a server that speaks ZEO protocol 4, made by patching '
        'ZEO.asyncio.server in the server process; a ZEO 5 server has no such '
        'switch.'),
    'python-plugin': (
        True,
        'The conf has %import of a Python package (ZODB.tests, ZEO.tests) '
        'that defines a storage wrapper in Python (hexstorage, '
        'serverhexstorage, loaddelayed_storage), to be imported by the '
        'server.'),
    'zeoclient-storage': (
        True,
        'The server is to serve a <zeoclient> section, that is to be a ZEO '
        'client of another ZEO server (fan-out).'),
    'python-runzeo-options': (
        False,
        'Calls the Python API ZEO.runzeo.ZEOOptions/ZEOServer on a conf or '
        'on arguments in the test process; no server program is started. What '
        'they check of the command line and the conf is covered over the '
        'process boundary in the suite "adapted".'),
}

X = 'exclude'

# (module regex, class/docname regex, test regex) -> suite | (X, category[, note])
RULES = [
    # ---- ZEO.tests.testZEO: classes ------------------------------------
    ('testZEO', 'Test_convenience_functions', '.*', (X, 'client-only')),
    ('testZEO', 'AAAA_Test_Runner_Hack', '.*',
     (X, 'client-only', 'empty test, a work-around for the test runner')),
    ('testZEO', '(FileStorageHexTests|FileStorageClientHexTests)', '.*',
     (X, 'python-plugin')),
    ('testZEO', 'FileStorageLoadDelayedTests', '.*', (X, 'python-plugin')),
    ('testZEO', 'MappingStorageTests', '.*', 'mappingstorage'),
    ('testZEO', 'DemoStorageTests', '.*', 'demostorage'),
    ('testZEO', '.*', 'testUndo(Multiple)?ConflictResolution(Reversed)?',
     'server-python-cr'),
    # the same class, in a store; ClientConflictResolutionTests has it merged
    # by the client
    ('testZEO',
     'FileStorageTests|BlobAdaptedFileStorageTests|BlobWritableCacheTests',
     'checkResolve', 'server-python-cr'),
    ('testZEO', 'FileStorageTests', '.*', 'filestorage'),
    ('testZEO', 'BlobAdaptedFileStorageTests', '.*', 'blobstorage'),
    ('testZEO', 'BlobWritableCacheTests', '.*', 'blobshared'),
    ('testZEO', 'FileStorageSSLTests', '.*', 'ssl'),
    ('testZEO', 'ClientConflictResolutionTests', '.*', 'conflict'),
    ('testZEO', 'FileStorageRecoveryTests', '.*', 'recovery'),
    # expects the very exceptions MappingStorage.history raises
    ('testZEO', 'ZRPCConnectionTests', 'checkExceptionLogsAtError',
     'mappingstorage'),
    ('testZEO', 'ZRPCConnectionTests', '.*', 'connection'),
    ('testZEO', 'MultiprocessingTests', '.*', 'misc'),
    ('testZEO', 'Client.*BlobTests',
     '(gc_blob_removes_uncommitted_data'
     '|lp440234_Setting__p_changed_of_a_Blob_w_no_uncomitted_changes_is_noop)',
     (X, 'client-only', 'does not use the storage it is given')),
    ('testZEO', 'ClientStorageNonSharedBlobs.*', '.*', 'blobapp'),
    ('testZEO', 'ClientStorageSharedBlobs.*', '.*', 'blobapp'),
    # ---- ZEO.tests.testZEO: doctests -----------------------------------
    ('testZEO', 'doctest',
     '(multiple_storages_invalidation_queue_is_not_insane'
     '|getInvalidationsAfterServerRestart)', (X, 'in-process-server')),
    ('testZEO', 'doctest', 'ClientDisconnected_errors_are_TransientErrors',
     (X, 'client-only')),
    ('testZEO', 'doctest', '(test_server_status|test_ruok)', 'monitor'),
    ('testZEO', 'doctest', 'quick_close_doesnt_kill_server', 'ssl'),
    ('testZEO', 'doctest',
     '(runzeo_without_configfile|runzeo_logrotate_on_sigusr2|client_labels'
     '|dont_log_poskeyerrors_on_server|test_runzeo_msgpack_support)',
     'process'),
    ('testZEO', 'doctest', 'gracefully_handle_abort_while_storing_many_blobs',
     'blobapp'),
    ('testZEO', 'doctest', 'client_has_newer_data_than_server', 'reconnect'),
    ('testZEO', 'doctest', 'iterator_sane_after_reconnect', 'reconnect'),
    ('testZEO', 'doctest', '.*', 'misc'),
    # ---- ZEO.tests.testZEO: doctest files ------------------------------
    ('testZEO', 'docfile', r'zdoptions\.test', (X, 'python-runzeo-options')),
    ('testZEO', 'docfile', r'dynamic_server_ports\.test',
     (X, 'in-process-server',
      'subscribes to ZODB.event in the server process and looks at the '
      'server object')),
    ('testZEO', 'docfile', r'protocols\.test', (X, 'old-protocol')),
    ('testZEO', 'docfile', r'zeo-fan-out\.test', (X, 'zeoclient-storage')),
    ('testZEO', 'docfile',
     r'(drop_cache_rather_than_verify\.txt|invalidation-age\.txt)',
     'invalidation'),
    ('testZEO', 'docfile', r'new_addr\.test', 'reconnect'),
    ('testZEO', 'docfile', r'(zeo_blob_cache\.test|IExternalGC\.test)',
     'blobapp'),
    ('testZEO', 'docfile', r'nagios\.rst', 'monitor'),
    ('testZEO', 'docfile', r'client-config\.test', 'config'),
    # ---- the other modules ---------------------------------------------
    ('testConnection', 'MappingStorage.*', '.*', 'mappingstorage'),
    ('testConnection', 'FileStorageConnectionTests', 'checkConcurrent.*',
     'stress'),
    ('testConnection', 'FileStorageConnectionTests', '.*', 'connection'),
    ('testConnection', 'FileStorageReconnectionTests', '.*', 'reconnect'),
    ('testConnection', 'FileStorageInvqTests', '.*', 'invalidation'),
    ('testConnection', 'FileStorageTimeoutTests', '.*', 'timeout'),
    ('testConnection', 'SSLConnectionTests', '.*', 'ssl'),
    ('testConnection', 'doctest', 'invalidations_while_connecting',
     'invalidation'),
    ('testConfig', '.*', '.*', 'config'),
    ('testssl', 'SSLConfigTestMockiavellian', '.*',
     (X, 'client-only', 'half of it mocks the ssl module under the Python '
      'client, half under the Python server')),
    ('testssl', 'SSLConfigTest', 'test_ssl_pw',
     (X, 'python-plugin', 'password-function names a Python function')),
    ('testssl', 'SSLConfigTest', '.*', 'ssl'),
    ('test_client_side_conflict_resolution', '.*', 'test_server_side',
     (X, 'in-process-server')),
    ('test_client_side_conflict_resolution', '.*', '.*', 'conflict'),
    ('test_sync', '.*', '.*',
     (X, 'in-process-server', 'counts ping() calls in the server object')),
    ('test_client_credentials', '.*', '.*',
     (X, 'in-process-server', 'replaces ZEOStorage.register')),
    ('testZEO2', '.*', '.*', (X, 'in-process-server')),
    ('testZEOServer', '.*', '.*', (X, 'python-runzeo-options')),
    ('testZEOOptions', '.*', '.*', (X, 'python-runzeo-options')),
    ('testConversionSupport', '.*', 'test_client_record_iternext',
     (X, 'client-only')),
    ('testConversionSupport', '.*', '.*', (X, 'in-process-server')),
    ('testTransactionBuffer', '.*', '.*', (X, 'client-only')),
    ('test_cache', '.*', '.*', (X, 'client-only')),
    ('test_marshal', '.*', '.*', (X, 'client-only')),
    (r'asyncio\.tests', '(Msgpack)?ServerTests', '.*',
     (X, 'in-process-server')),
    (r'asyncio\.tests', '.*', '.*', (X, 'client-only')),
    # ---- ours ----------------------------------------------------------
    ('extra_zodb', '.*', '(doctest_isReadOnly|testIsReadonly)',
     (X, 'client-only', 'shows a False that is 0 in any ClientStorage')),
    ('extra_zodb', '.*', '.*', 'zodb'),
    ('adapted', '.*', '.*', 'adapted'),
]

# Which protocols a suite runs with by default.  Suites that do not depend on
# the encoding run once.
PROTOCOLS = {}
DEFAULT_PROTOCOLS = ('pickle', 'msgpack')

# "core" is what runs by default. The rest of the cross product (the same test
# again in the other encoding, where a third class with the same mixins already
# runs in that encoding) runs with --full only.
FULL_ONLY = [
    # the generic FileStorage tests run in both encodings bare (filestorage),
    # in msgpack behind a blobstorage (blobstorage), and in pickle behind a
    # shared blob dir (blobshared) and over SSL (ssl)
    r'pickle:blobstorage:BlobAdaptedFileStorageTests\.'
    r'(?!checkStoreAndLoadBlob|checkStoreBlob|checkLoadBlob'
    r'|checkTemporaryDirectory|checkTransactionBufferCleanup)',
    r'msgpack:blobshared:', r'msgpack:ssl:',
    r'msgpack:blobapp:ClientStorageShared',
    # the generic tests again, over other storages: in one encoding each
    r'msgpack:mappingstorage:', r'pickle:demostorage:',
    # half a minute each, busy in the client; once in the core
    r'(?!pickle:filestorage:).*test_race_external_invalidate_vs_disconnect',
    r'msgpack:.*client_has_newer_data_than_server',
]


def is_core(testid):
    return not any(re.match(p, testid) for p in FULL_ONLY)


# seconds for one test where the default would not do
TIMEOUTS = [
    (r':stress:', 120),
    (r'Race|test_race', 130),
    (r'zeo_blob_cache', 120),
    (r'invalidations_while_connecting', 120),
]

ZEO_MODULES = [
    'ZEO.tests.testZEO', 'ZEO.tests.testConnection', 'ZEO.tests.testConfig',
    'ZEO.tests.testssl', 'ZEO.tests.test_client_side_conflict_resolution',
    'ZEO.tests.testZEO2', 'ZEO.tests.test_sync',
    'ZEO.tests.test_client_credentials', 'ZEO.tests.testZEOServer',
    'ZEO.tests.testZEOOptions', 'ZEO.tests.testConversionSupport',
    'ZEO.tests.testTransactionBuffer', 'ZEO.tests.test_cache',
    'ZEO.tests.test_marshal', 'ZEO.asyncio.tests',
]
OUR_MODULES = ['extra_zodb', 'adapted']

# classes that upstream's test_suite() leaves out "to save time"
EXTRA_TESTZEO_CLASSES = [
    'FileStorageTests', 'DemoStorageTests', 'FileStorageHexTests',
    'FileStorageClientHexTests',
]

Item = collections.namedtuple(
    'Item', 'suite cls name module area category note test layer')


def _walk(t, layer=None):
    if isinstance(t, unittest.TestSuite):
        layer = getattr(t, 'layer', layer)
        for x in t:
            yield from _walk(x, layer)
    else:
        yield t, getattr(t, 'layer', None) or layer


def _module_suite(mod):
    if hasattr(mod, 'test_suite'):
        return mod.test_suite()
    return unittest.defaultTestLoader.loadTestsFromModule(mod)


def _describe(test, layer, modname):
    """(kind for the rules, class label, test name, area)"""
    if isinstance(test, doctest.DocFileCase):
        kind, name = 'docfile', test._dt_test.name
        cls = 'docfile'
        area = name
    elif isinstance(test, doctest.DocTestCase):
        kind, name = 'doctest', test._dt_test.name.rsplit('.', 1)[-1]
        cls = 'doctest'
        area = 'doctest'
    else:
        cls = kind = type(test).__name__
        name = test._testMethodName
        area = cls
        for k in type(test).__mro__:
            if name in k.__dict__:
                area = k.__name__
                break
    lname = getattr(layer, '__name__', '')
    if kind in ('docfile', 'doctest') and lname.startswith('ClientStorage'):
        # storage_reusable_suite: same doctests once per blob mode
        kind = cls = lname
        area = 'testblob'
    return kind, cls, name, area


def collect():
    """All upstream tests, each with suite or exclusion."""
    out = []
    seen = set()
    for modname in ZEO_MODULES + OUR_MODULES:
        mod = importlib.import_module(modname)
        pairs = list(_walk(_module_suite(mod)))
        if modname == 'ZEO.tests.testZEO':
            for c in EXTRA_TESTZEO_CLASSES:
                for prefix in ('check', 'test'):
                    loader = unittest.TestLoader()
                    loader.testMethodPrefix = prefix
                    pairs += list(_walk(loader.loadTestsFromTestCase(
                        getattr(mod, c))))
        for test, layer in pairs:
            kind, cls, name, area = _describe(test, layer, modname)
            for mre, cre, tre, target in RULES:
                if (re.search(mre + '$', modname)
                        and re.fullmatch(cre, kind)
                        and re.fullmatch(tre, name)):
                    break
            else:
                raise LookupError('no rule for %s %s %s'
                                  % (modname, kind, name))
            if isinstance(target, tuple):
                category = target[1]
                note = target[2] if len(target) > 2 else ''
                suite = category
            else:
                category, note, suite = None, '', target
            key = suite, cls, name
            if key in seen:
                if category:            # e.g. same doctest in two modules
                    continue
                raise LookupError('duplicate %r' % (key,))
            seen.add(key)
            out.append(Item(suite, cls, name, modname, area, category, note,
                            test, layer))
    return out


def timeout_for(testid, default):
    for pat, t in TIMEOUTS:
        if re.search(pat, testid):
            return max(t, default)
    return default
