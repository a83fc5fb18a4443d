#!/bin/sh
# A resolver process that never greets.
sleep 600
