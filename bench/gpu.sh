#!/usr/bin/env bash
# Builds, tests, checks and measures fastnn on a machine with a GPU, without network. usage: bench/gpu.sh STAGE
#
#   data      first, where the data is: copies what tests and airbench read into bench/gpu/data, or the sets named behind it (data cifar10-jpeg)
#   build     pip install without build isolation, for the GPU at hand, into bench/gpu/build
#   test      the test suite, with the tables of the GPU
#   sanitize  compute-sanitizer's four tools, one after the other, over small cases of every kernel, a twelfth of them at a time
#   kernels   bench.kernels in each precision and in bfloat16
#   train     bench.train: the reference nets beside PyTorch's forms
#   airbench  bench.airbench: 20 whole runs of CIFAR-10's speed record beside PyTorch's, with Muon and then with SGD
#
# A stage ends within 8 minutes. Called again, it goes on where it was stopped: what is done has a stamp in bench/gpu/out, beside logs, JSON and
# summary.txt. With $OUT set, these come there as well. python3 must have torch, numpy, safetensors, tqdm, pytest, pytest-xdist, pybind11, scikit-build-core, ninja.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
root=$PWD
folder=$root/bench/gpu
out=$folder/out
site=$folder/build/site
limit=${FASTNN_STAGE_SECONDS:-470}
mkdir -p "$out"
export FASTNN_DATA=$folder/data PYTHONPATH=$site PYTHONUNBUFFERED=1

remaining() { echo $((limit > SECONDS ? limit - SECONDS : 1)); }

note() { echo "$(date '+%H:%M:%S') $*" | tee -a "$out/summary.txt"; }

# step NAME COMMAND...: runs it once, within what is left of the stage's time; its output lies in NAME.log.
step() {
  local name=$1 before=$SECONDS status
  shift
  if [ -e "$out/$name.done" ]; then
    echo "$name: done before"
    return 0
  fi
  timeout --kill-after=10 "$(remaining)" "$@" > >(tee "$out/$name.log") 2>&1
  status=$?
  case $status in
    0) touch "$out/$name.done" && note "$name: done in $((SECONDS - before)) s" ;;
    124 | 137) note "$name: stopped after $((SECONDS - before)) s; call the stage again to go on" ;;
    *) note "$name: failed with status $status after $((SECONDS - before)) s: $(tail -n 1 "$out/$name.log")" ;;
  esac
  return $status
}

hand_over() {
  [ -n "${OUT:-}" ] || return 0
  cp "$out/summary.txt" "$OUT/" 2>/dev/null
  tar -czf "$OUT/gpu-out.tar.gz" -C "$folder" out
}
trap hand_over EXIT

data() {
  local from=${FASTNN_DATA_FROM:-$root/../shared/data} name
  mkdir -p "$folder/data"
  [ $# -gt 0 ] || set -- fashion-mnist cifar10-jpeg
  for name in "$@"; do cp -r "$from/$name" "$folder/data/"; done
  du -sh "$folder/data"
}

describe() {
  nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv,noheader
  nvcc --version | tail -n 2
  python3 -c 'import platform, torch; print("Python", platform.python_version(), "PyTorch", torch.__version__, torch.version.cuda)'
}

install_here() {
  rm -rf "$site"  # what is compiled stays: a build that was stopped goes on
  mkdir -p "$site"
  FASTNN_CUDA=ON python3 -m pip install -v --no-index --no-build-isolation --no-deps --no-compile --target "$site" \
    -C build-dir="$folder/build/cmake" . || with_cmake
}

# For machines where pip or scikit-build-core will not.
with_cmake() {
  FASTNN_CUDA=ON cmake -S . -B "$folder/build/cmake" -G Ninja -DPython_EXECUTABLE="$(command -v python3)" \
    -Dpybind11_DIR="$(python3 -m pybind11 --cmakedir)" && cmake --build "$folder/build/cmake" && cp -r fastnn "$site/" &&
    cp "$folder"/build/cmake/_C*.so "$folder/build/cmake/_cuda.so" "$site/fastnn/"
}

export -f install_here with_cmake
export folder site

# The library is not carried from machine to machine: its own presence is its stamp.
build() {
  [ -e "$site/fastnn/_cuda.so" ] || rm -f "$out/build.done"
  step build bash -c install_here && python3 -P -c 'import fastnn.cuda as c; print(c.why_not_available() or c.device_name())' | tee -a "$out/summary.txt"
}

# Plugins that the machine has besides may warn, and warnings are errors.
tests() {
  FASTNN_TEST_DEVICES=cuda step tests python3 -P -m pytest -q -p no:cacheprovider -p no:benchmark -n 12 --dist worksteal --maxfail=50 \
    -k "cuda and not cuda_on_cpu" --ignore tests/long tests
}

sanitize() {
  local tool shard name status shards=12
  # Each array in memory of its own; cases of a few blocks
  export FASTNN_TEST_DEVICES=cuda FASTNN_ARENA=off FASTNN_TEST_MOST_ELEMENTS=4000
  if ! command -v compute-sanitizer >/dev/null; then
    note "sanitize: compute-sanitizer is not installed"
    return 0
  fi
  for tool in memcheck racecheck initcheck synccheck; do
    for ((shard = 0; shard < shards; shard++)); do
      name=sanitize-$tool-$shard status=0
      FASTNN_TEST_SHARD=$shard/$shards step "$name" compute-sanitizer --tool "$tool" --error-exitcode 9 --launch-timeout 0 \
        python3 -P -m pytest -q -p no:cacheprovider -p no:benchmark tests/test_rows.py tests/test_bfloat16.py tests/test_cuda_precision.py \
        -k 'test_case or rounded_once or small_integers' || status=$?
      case $status in
        0) ;;
        124 | 137) return 0 ;; # out of time
        *)
          note "$name: $(grep -m 3 -E '=========' "$out/$name.log" | tr '\n' ' ')"
          touch "$out/$name.done" # it is in the summary; the others come first
          ;;
      esac
    done
  done
}

# Results of a bench that was stopped are read again: --resume.
bench() {
  local name=$1
  shift
  step "$name" python3 -m "$@" --device cuda --out "$out" --resume && tail -n 12 "$out/$name.log" >>"$out/summary.txt"
}

kernels() {
  bench kernels bench.kernels --turns 5
  bench kernels-bfloat16 bench.kernels --turns 5 --dtype bfloat16 --only conv2d matmul batchnorm relu maxpool
  bench kernels-medium bench.kernels --turns 5 --precision medium --only conv2d matmul
  bench kernels-high bench.kernels --turns 5 --precision high --only conv2d matmul
}

train() { bench train bench.train --compile --pairs 20; }

airbench() {
  local recipe
  for recipe in muon sgd; do
    bench "airbench-$recipe" bench.airbench "$folder/data/cifar10-jpeg/cifar10-jpeg.npz" --recipe "$recipe" --runs 20 --mixed || return
  done
}

stage=${1:-}
case $stage in
  data) data "${@:2}" ;;
  build | test | sanitize | kernels | train | airbench)
    note "--- $stage at $(git rev-parse --short HEAD 2>/dev/null || echo unknown): $(describe 2>&1 | tr '\n' ';')"
    build || exit 1
    [ "$stage" = build ] || "${stage/%test/tests}"
    ;;
  *) sed -n '2,13s/^# \{0,1\}//p' "$0" && exit 2 ;;
esac
