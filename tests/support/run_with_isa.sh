#!/bin/sh
# run_with_isa.sh ISA COMMAND...: runs a test with one instruction set forced. Where the processor lacks it, the test counts
# as skipped (exit code 77) and the reason goes where other reasons go.
isa=$1
shift
if ! "$(dirname "$0")/../../tools/instruction_sets" "${isa}"; then
  echo "$(basename "$1") with ${isa}: this processor has no ${isa}" | tee -a "${THERMOCLINE_SKIP_LOG:-/dev/null}"
  exit 77
fi
THERMOCLINE_FORCE_ISA=${isa} exec "$@"
