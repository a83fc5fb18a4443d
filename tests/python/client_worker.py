"""One client process of the matrix, run by the Python of some ZEO version.

    python client_worker.py ACTION ADDRESS '{"option": value}'

ADDRESS is JSON: [host, port] or a path. Prints one line of JSON. Uses nothing but what
ZEO 5.1 has already. The database is a bank: accounts whose balances always sum
to zero, each with a count of the deposits made to it.
"""
import json
import random
import sys
import threading
import time

import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZEO.ClientStorage import ClientStorage
from ZODB.POSException import ConflictError, ReadOnlyError

ACCOUNTS = 8
WAIT_SECONDS = 30


def prepare(storage, options):
    """Makes the accounts."""
    db = ZODB.DB(storage)
    connection = db.open()
    connection.root()["accounts"] = PersistentMapping()
    for number in range(ACCOUNTS):
        connection.root()["accounts"][number] = PersistentMapping(balance=0, deposits=0)
    transaction.commit()
    db.close()
    return {}


def transfer(storage, options):
    """Several threads move money, conflicts and all, while another checks every view it gets."""
    db = ZODB.DB(storage, pool_size=20)
    results = {"committed": 0, "conflicts": 0, "views": 0, "wrong_views": [], "failed": []}
    lock = threading.Lock()
    writers = [
        threading.Thread(target=move_money, args=(db, options["times"], seed, results, lock))
        for seed in range(options["threads"])
    ]
    done = threading.Event()
    reader = threading.Thread(target=check_views, args=(db, done, results, lock))
    for thread in writers + [reader]:
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    db.close()
    return results


def move_money(db, times, seed, results, lock):
    chance = random.Random(repr((seed, time.time())))
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    try:
        for _ in range(times):
            giver, taker = chance.sample(range(ACCOUNTS), 2)
            amount = chance.randrange(1, 100)
            while True:
                try:
                    manager.begin()
                    accounts = connection.root()["accounts"]
                    accounts[giver]["balance"] -= amount
                    accounts[taker]["balance"] += amount
                    accounts[taker]["deposits"] += 1
                    manager.commit()
                    break
                except ConflictError:
                    manager.abort()
                    with lock:
                        results["conflicts"] += 1
            with lock:
                results["committed"] += 1
    except Exception as error:
        with lock:
            results["failed"].append(repr(error))
    finally:
        manager.abort()
        connection.close()


def check_views(db, done, results, lock):
    """A view in which the sum is not zero mixes two transactions."""
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    deposits = 0
    while True:
        last_turn = done.is_set()
        try:
            manager.begin()
            accounts = [connection.root()["accounts"][n] for n in range(ACCOUNTS)]
            balance = sum(account["balance"] for account in accounts)
            seen = sum(account["deposits"] for account in accounts)
        except ConflictError:
            continue
        finally:
            manager.abort()
        with lock:
            results["views"] += 1
            if balance != 0 and len(results["wrong_views"]) < 10:
                results["wrong_views"].append("balances sum to %d" % balance)
            if seen < deposits and len(results["wrong_views"]) < 10:
                results["wrong_views"].append("the past came back: %d after %d deposits" % (seen, deposits))
        deposits = seen
        if last_turn:
            break
    connection.close()


def total(storage, options):
    """The sum of all balances and of all deposits."""
    db = ZODB.DB(storage)
    connection = db.open()
    accounts = connection.root()["accounts"].values()
    answer = {
        "balance": sum(a["balance"] for a in accounts),
        "deposits": sum(a["deposits"] for a in accounts),
        "loads": storage.server_status()["loads"],
    }
    connection.close()
    db.close()
    return answer


def write_when_read_only(storage, options):
    """What happens to a write: the name of the error, and the deposits that can be read."""
    db = ZODB.DB(storage)
    connection = db.open()
    account = connection.root()["accounts"][0]
    seen = account["deposits"]
    account["deposits"] += 1
    try:
        transaction.commit()
        error = None
    except ReadOnlyError as caught:
        error = type(caught).__name__
    transaction.abort()
    connection.close()
    db.close()
    return {"error": error, "seen": seen, "read_only": bool(storage.isReadOnly())}


def follow(storage, options):
    """Tells what it sees until the deposits reach a number; `line` answers are read by the test."""
    db = ZODB.DB(storage)
    connection = db.open()
    deadline = time.time() + WAIT_SECONDS
    while True:
        try:
            transaction.begin()
            seen = sum(a["deposits"] for a in connection.root()["accounts"].values())
        except Exception as error:  # away for a while: the server restarts meanwhile
            seen = repr(error)
        finally:
            transaction.abort()
        if seen == options["until"] or time.time() > deadline:
            break
        if options.get("say_when_ready"):
            options["say_when_ready"] = False
            say({"ready": seen})
        time.sleep(0.02)
    read_only = bool(storage.isReadOnly())
    connection.close()
    db.close()
    return {"seen": seen, "read_only": read_only}


def say(answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main():
    action, address, options = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    address = tuple(address) if isinstance(address, list) else address
    storage = ClientStorage(address, wait_timeout=WAIT_SECONDS, **options.pop("client", {}))
    actions = (prepare, transfer, total, write_when_read_only, follow)
    try:
        answer = {f.__name__: f for f in actions}[action](storage, options)
    finally:
        storage.close()
    say(answer)


if __name__ == "__main__":
    main()
