#!/bin/sh
# Usage: check_isa_symbols.sh OBJECT...
# Objects of one instruction set (avx2_*.cc, avx512_*.cc) may only define mergeable symbols whose names
# carry that instruction set: a common one, compiled here, could replace everybody's.
status=0
for object in "$@"; do
  isa=$(basename "$object" | sed -n 's/^\(avx2\|avx512\)_.*/\1/p')
  [ -n "$isa" ] || continue
  leaks=$(nm -C --defined-only "$object" | grep -E ' [WVu] ' | grep -v "thermocline::$isa::" |
    grep -v -E ' DW\.ref\.__gxx_personality_v0$')
  if [ -n "$leaks" ]; then
    printf '%s defines symbols that other units may share:\n%s\n' "$object" "$leaks"
    status=1
  fi
done
exit $status
