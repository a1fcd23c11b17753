#!/usr/bin/env bash
# check_versions.sh oldest|newest [EXTRA ...]: installs cotbal in a clean environment, with the dependencies of the base and of
# these extras at the lower bounds of pyproject.toml or at the newest versions of the index, and runs commands and the tests
# that need nothing else. Supported extras: judge, stamps, llava (its converters alone), and train, which downloads 3 GB for an
# old PyTorch and is therefore no part of `make versions`.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case "${1:-}" in
  oldest | newest) ;;
  *) echo "expected oldest or newest; found '${1:-}'" >&2; exit 2 ;;
esac
tests=()
for extra in "${@:2}"; do
  case "$extra" in
    judge) tests+=(tests/unit/judging) ;;
    stamps | llava) ;;  # what is called of them is below
    train) tests+=(tests/unit/trainers/test_{trainer,head,trained_weights,observer,packing_check}.py tests/unit/test_training.py) ;;
    *) echo "expected an extra of judge, stamps, llava, train; found '$extra'" >&2; exit 2 ;;
  esac
done

"$PYTHON" - "$@" > "$work/versions.txt" <<'CODE'
import re, sys, tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
dependencies = list(project["dependencies"])
for extra in sys.argv[2:]:
    dependencies += project["optional-dependencies"][extra]
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
pip pytest pytest-xdist hypothesis beartype psutil tensorboard  # the last one: what `train` logs to it is read
for extra in "${@:2}"; do
  case "$extra" in
    stamps) "$work/clean/bin/python" - <<'CODE'
import numpy as np
from gguf import GGMLQuantizationType, quants
block = np.zeros((1, 20), np.uint8)  # one block of Q4_1: 32 values
assert quants.dequantize(block, GGMLQuantizationType.Q4_1).shape == (1, 32)
CODE
      ;;
    llava) "$work/clean/bin/python" - "$work" <<'CODE'
import io, sys
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
model = io.BytesIO()
words = iter(["a frog sits on a stone", "a stone lies on a road"] * 20)
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=words, model_writer=model, vocab_size=30, hard_vocab_limit=False
)
read = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
assert len(read.pieces) > 10
CODE
      ;;
  esac
done
OMP_NUM_THREADS=1 "$work/clean/bin/python" -m pytest -q -W default -m "not extended" -p no:cacheprovider \
  tests/unit/test_{scores,recipe,strict_yaml,console,names,results}.py tests/unit/metrics/test_anls.py \
  tests/unit/data/test_{records,image_states}.py tests/unit/report/test_{figures,markdown,report}.py "${tests[@]}"
echo "cotbal works with the $1 versions${2:+ of the base and ${*:2}}"
