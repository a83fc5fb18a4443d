#!/bin/sh
# A resolver process that greets, and then waits for a child of its own.
. "$(dirname "$0")/prelude.sh"
greet "$@"
sleep 600
