#!/bin/sh
# run_with_isa.sh ISA COMMAND...: runs a test with one instruction set forced. Where the processor lacks it, the test counts
# as skipped (exit code 77) and the reason goes where other reasons go.
isa=$1
shift
if ! "$(dirname "$0")/../../tools/instruction_sets" "${isa}"; then
  echo "$(basename "$1") with ${isa}: this processor has no ${isa}" | tee -a "${THERMOCLINE_SKIP_LOG:-/dev/null}"
  exit 77
fi
# oneDNN's generated code, which some tests reach, is what a processor with AVX2 alone would run, too.
if [ "${isa}" = avx2 ]; then export ONEDNN_MAX_CPU_ISA=AVX2; fi
THERMOCLINE_FORCE_ISA=${isa} exec "$@"
