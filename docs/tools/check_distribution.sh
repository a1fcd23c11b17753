#!/usr/bin/env bash
# Builds wheel and sdist into dist/ and checks each in a clean environment: it installs, shows its help, and computes weights.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rm -rf dist
"$PYTHON" -m venv "$work/build"
"$work/build/bin/python" -m pip install --quiet --disable-pip-version-check build twine
"$work/build/bin/python" -m build --outdir dist
"$work/build/bin/python" -m twine check --strict dist/*

cat > "$work/scores.csv" <<'CSV'
run,vqa,ocr,chart
mini,0.30,0.20,0.10
full:vqa,0.60,0.25,0.20
full:ocr,0.33,0.70,0.15
full:chart,0.36,0.30,0.50
CSV
for file in dist/*; do
  echo "checking $file"
  rm -rf "$work/clean"
  "$PYTHON" -m venv "$work/clean"
  "$work/clean/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$file"
  (
    cd "$work"
    clean/bin/cotbal --help >/dev/null
    clean/bin/cotbal weights --scores scores.csv --out weights
    clean/bin/python -c 'import json; assert len(json.load(open("weights/weights.json"))["tasks"]) == 3'
    clean/bin/python -c 'import sys, cotbal; assert "torch" not in sys.modules'
    rm -r weights
  )
done
echo "both distributions work"
