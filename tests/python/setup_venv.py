#!/usr/bin/env python3
"""Makes the virtual environments of the Python-driven tests.

    python3 tests/python/setup_venv.py [--clients | --client VERSION ...] [--force]

`.venv` in the project's root drives the tests and the conformance run; with
`--clients`, `.venv-<version>` for every older ZEO client in `clients/` too.  An
environment whose list of packages has not changed is left alone, so calling
this before every run costs nothing.  Prints the path of each Python it made sure of.
"""
import argparse
import glob
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tokenize

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
STAMP = "zeolith-requirements"
NO_ENSUREPIP = """\
python3 -m venv needs pip's bootstrap (ensurepip), which this Python lacks.
On Debian and Ubuntu it is a package of its own:

    apt-get install -y python3-venv
"""


def client_versions():
    """The older ZEO versions that there is a list of packages for."""
    return sorted(name[:-4] for name in os.listdir(os.path.join(HERE, "clients")) if name.endswith(".txt"))


def make(directory, requirements, force=False):
    """Makes the environment unless it is there and up to date; returns its Python."""
    python = os.path.join(directory, "bin", "python")
    stamp = os.path.join(directory, STAMP)
    wanted = fingerprint(requirements)
    if not force and os.path.exists(python) and read(stamp) == wanted:
        return python
    shutil.rmtree(directory, ignore_errors=True)
    say("making %s from %s" % (os.path.relpath(directory, ROOT), os.path.relpath(requirements, ROOT)))
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-script-location",
         "-r", requirements],
        check=True,
    )
    rename_async(directory)
    with open(stamp, "w") as f:
        f.write(wanted)
    return python


def fingerprint(requirements):
    """Changes when the packages, this file or the Python change."""
    digest = hashlib.sha256(repr(sys.version_info[:2]).encode())
    for path in requirements, os.path.abspath(__file__):
        with open(path, "rb") as f:
            digest.update(f.read())
    return digest.hexdigest()


def rename_async(directory):
    """Makes ZEO 5.1 importable: it has methods called `async`, since Python 3.7 a keyword.

    Only names are changed, and `asyncio.async` becomes what it was an alias of.
    What goes over the wire stays as 5.1 has it.
    """
    for package in glob.glob(os.path.join(directory, "lib", "python3*", "site-packages", "ZEO")):
        if not os.path.exists(os.path.join(package, "asyncio", "mtacceptor.py")):
            continue  # a server of 5.4 or later; these are modern code
        for path in glob.glob(os.path.join(package, "**", "*.py"), recursive=True):
            with open(path, "rb") as f:
                source = f.read()
            fixed = without_async_names(source)
            if fixed != source:
                with open(path, "wb") as f:
                    f.write(fixed)


def without_async_names(source):
    """The source with every *name* `async` (no keyword use of it) renamed `async_`."""
    lines = source.splitlines(True)
    tokens = list(tokenize.tokenize(io.BytesIO(source).readline))
    for token, following in reversed(list(zip(tokens, tokens[1:]))):
        if token.string == "async" and following.string not in ("def", "with", "for"):
            row, column = token.start
            line = lines[row - 1].decode()
            lines[row - 1] = (line[:column] + "async_" + line[column + 5:]).encode()
    return b"".join(lines).replace(b"asyncio.async_(", b"asyncio.ensure_future(")


def read(path):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return None


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", action="store_true", help="every older client version too")
    parser.add_argument("--client", action="append", default=[], choices=client_versions(), metavar="VERSION")
    parser.add_argument("--force", action="store_true", help="make them anew")
    args = parser.parse_args()
    if sys.version_info < (3, 10):
        sys.exit("ZEO 6.2 needs Python 3.10 or newer; this is %s" % sys.version.split()[0])
    try:
        import ensurepip  # noqa: F401  only asked whether it is there
    except ImportError:
        sys.exit(NO_ENSUREPIP)
    print(make(os.path.join(ROOT, ".venv"), os.path.join(HERE, "requirements.txt"), args.force))
    for version in client_versions() if args.clients else args.client:
        requirements = os.path.join(HERE, "clients", version + ".txt")
        print(make(os.path.join(ROOT, ".venv-" + version), requirements, args.force))


if __name__ == "__main__":
    main()
