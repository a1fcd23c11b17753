#!/usr/bin/env bash
# Looks up known vulnerabilities of the pinned versions of constraints.txt; exit code 1 if there is one. Where no service
# answers, as behind a mirror, it says so and looks up nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$PYTHON" -m venv "$work/audit"
"$work/audit/bin/python" -m pip install --quiet --disable-pip-version-check "pip-audit>=2.9"
"$work/audit/bin/pip-audit" --requirement constraints.txt --no-deps --disable-pip --progress-spinner off \
  --format json --output "$work/found.json" > "$work/log" 2>&1 || true
if [ ! -s "$work/found.json" ]; then
  tail -n 5 "$work/log"
  echo "no service answers: vulnerabilities were not looked up"
  exit 0
fi
"$PYTHON" - "$work/found.json" <<'CODE'
import json, sys
packages = json.load(open(sys.argv[1]))["dependencies"]
known = [package for package in packages if "skip_reason" not in package]
print(f"vulnerabilities of {len(known)} of {len(packages)} packages were looked up")
vulnerable = [package for package in known if package["vulns"]]
for package in vulnerable:
    for vulnerability in package["vulns"]:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
sys.exit(bool(vulnerable))
CODE
