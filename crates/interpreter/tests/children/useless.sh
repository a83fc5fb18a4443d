#!/bin/sh
# A resolver process that says why it is of no use.
. "$(dirname "$0")/prelude.sh"
printf '\000\000\000\003Fno' >&0
take 1 >/dev/null
