#!/bin/sh
# A resolver process that greets with something else.
printf 'HTTP/1.1 400 Bad Request' >&0
sleep 600
