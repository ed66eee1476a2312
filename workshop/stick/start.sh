#!/bin/sh
# Installs what this folder holds, without a network, and opens the workshop:
#
#   sh start.sh              the exercises, in JupyterLab
#   sh start.sh notebooks    the notebooks
#   sh start.sh doctor       any other command of `oocr`
#
# Everything goes to oocr-workshop in your home folder (or where OOCR_HOME says).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
place=${OOCR_HOME:-$HOME/oocr-workshop}
versions="@VERSIONS@"

if [ -e "$here/UNFINISHED.txt" ] || [ ! -e "$here/MANIFEST.json" ]; then
  echo "This folder is not complete. Copy it again, or finish it: oocr bundle" >&2
  exit 1
fi

python=""
for version in $versions; do candidates="${candidates:-} python$version"; done
for candidate in $candidates python3 python; do
  if "$candidate" -c "import sys, venv, ensurepip
sys.exit('%d.%d' % sys.version_info[:2] not in '$versions'.split())" 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "No Python with venv among: $versions. Install one (on Debian and Ubuntu also" \
    "python3-venv), and start again." >&2
  exit 1
fi

# A finished installation remembers the list of the stick that it came from.
if ! cmp -s "$here/MANIFEST.json" "$place/installed.json"; then
  echo "Installing into $place: about 1.5 GB, some minutes"
  mkdir -p "$place/course"
  rm -f "$place/installed.json"
  "$python" -m venv --clear "$place/venv"
  "$place/venv/bin/python" -m pip install --disable-pip-version-check -q --no-index \
    -f "$here/wheels" -c "$here/course/constraints.txt" "oocr-lib[lab]"
  cp -R "$here/course/." "$place/course"
  cp "$here/MANIFEST.json" "$place/installed.json"
fi

cd "$place/course"
bin=$place/venv/bin
case ${1:-workshop} in
  workshop)
    "$bin/python" -m workshop.build --copy
    exec "$bin/python" -m jupyterlab lab/workshop
    ;;
  notebooks) exec "$bin/oocr" lab ;;
  *) exec "$bin/oocr" "$@" ;;
esac
