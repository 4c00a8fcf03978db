#!/bin/sh
# Print what pip installs into a variant of the image: requirements.sh cpu|cuda|web [INDEX]
#
# INDEX is a package index with another build of torch. Without it, `cpu` uses PyTorch's own index for CPUs.
set -eu

case ${1:-} in
    cpu) index=${2:-https://download.pytorch.org/whl/cpu} ;;
    cuda | web) index=${2:-} ;;
    *)
        echo "The variant is cpu, cuda or web, not \"${1:-}\"." >&2
        exit 1
        ;;
esac
if [ -n "$index" ]; then
    echo "--extra-index-url $index"
fi
if [ "$1" = web ]; then
    # With a broker, web processes load no model.
    grep -Ev '^(torch|sentence-transformers|transformers|onnx|onnxruntime)==' requirements.txt
else
    cat requirements.txt
fi
cat requirements-postgres.txt
