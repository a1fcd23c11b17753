#!/usr/bin/env bash
# check_versions.sh oldest|newest: installs cotbal without extras in a clean environment, with its dependencies at the lower
# bounds of pyproject.toml or at the newest versions of the index, and runs commands and the tests that need nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$PYTHON" - "${1:?oldest or newest}" > "$work/versions.txt" <<'CODE'
import re, sys, tomllib
with open("pyproject.toml", "rb") as file:
    dependencies = tomllib.load(file)["project"]["dependencies"]
for dependency in dependencies:
    name, bound = re.fullmatch(r"([\w-]+)>=([\w.]+)", dependency).groups()
    print(f"{name}=={bound}" if sys.argv[1] == "oldest" else name)
CODE

"$PYTHON" -m venv "$work/clean"
pip() { "$work/clean/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
pip --upgrade -r "$work/versions.txt" .
"$work/clean/bin/python" -m pip list --disable-pip-version-check

cat > "$work/scores.csv" <<'CSV'
run,vqa,ocr,chart
mini,0.30,0.20,0.10
full:vqa,0.60,0.25,0.20
full:ocr,0.33,0.70,0.15
full:chart,0.36,0.30,0.50
CSV
cotbal="$work/clean/bin/cotbal"
"$cotbal" --help > /dev/null
for command in check plan weights report export import; do
  "$cotbal" "$command" --help > /dev/null
done
"$cotbal" weights --scores "$work/scores.csv" --out "$work/weights"
test -s "$work/weights/report/index.html"

# Warnings are not errors here: old versions of one package may warn about new ones of another.
pip pytest hypothesis beartype psutil
OMP_NUM_THREADS=1 "$work/clean/bin/python" -m pytest -q -W default -m "not extended" -p no:cacheprovider \
  tests/unit/test_{scores,recipe,strict_yaml,console,names,results}.py tests/unit/metrics/test_anls.py \
  tests/unit/data/test_{records,image_states}.py tests/unit/report/test_{figures,markdown,report}.py
echo "cotbal works with the $1 versions"
