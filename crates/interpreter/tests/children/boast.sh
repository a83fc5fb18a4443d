#!/bin/sh
# A resolver process that announces more than an answer can be.
. "$(dirname "$0")/prelude.sh"
greet "$@"
take 4 >/dev/null
printf '\377\377\377\377' >&0
sleep 600
