#!/bin/sh
# install.sh VENV PIP-ARGUMENTS…: locked packages into VENV, made without pip if absent. Hashes must match. Only from
# /wheelhouse, where there are wheels; else from the package index. What only packages' own tests need is left out.
set -eu
venv=$1
shift
[ -x "$venv/bin/python" ] || python3 -m venv --without-pip "$venv"
if ls /wheelhouse/*.whl >/dev/null 2>&1; then
    set -- --no-index --find-links /wheelhouse "$@"
fi
/build/pip/bin/pip --python "$venv/bin/python" install --only-binary=:all: --require-hashes "$@"
find "$venv" -type d -name tests -prune -exec rm -rf {} +
