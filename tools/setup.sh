#!/bin/sh
# Makes a fresh Debian ready for `make demo`, with `dev` for `make test` and `vm` for `make test-vm` too: Debian packages (as root), a virtual environment, labctl in it.
# A second run changes nothing. PYTHON is the interpreter to use, VENV the folder of the environment.
set -eu
PYTHON=${PYTHON:-python3.11}
VENV=${VENV:-.venv}
here=$(dirname "$(dirname "$(readlink -f "$0")")")
cd "$here"
case ${1:-} in
dev) more=--tests extra='[dev]' ;;
vm) more='--tests --vm' extra='[dev,libvirt]' ;;
*) more='' extra='[report]' ;;
esac

missing=
for package in $(PYTHONPATH="$here" "$PYTHON" labctl/lab/requirements.py $more); do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
"$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing $(basename "$PYTHON")-venv"
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "setup: these Debian packages are missing:$missing; run 'sudo apt-get install -y$missing'" >&2
        exit 1
    fi
    echo "setup: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # tests start the services of these packages; this machine must not run them
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    # shellcheck disable=SC2086 # a list of names
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
echo "setup: installing labctl and its Python packages into $VENV"
if [ "${1:-}" = vm ] && "$VENV/bin/python" -c 'import labctl' 2>/dev/null; then
    # labctl itself is left as it is: tests may be running from this environment meanwhile (.ci/run)
    "$VENV/bin/python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["libvirt"], sep="\n")' |
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -r /dev/stdin
else
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -e ".$extra"
fi
