#!/bin/sh
# Runs a command built with ThreadSanitizer. Its shadow memory has fixed places, and where the kernel
# spreads mappings over more than 28 bits (newer kernels' default is 32) the runtime of GCC 12 and
# clang 14 dies at start with "unexpected memory mapping". There, and only there, the command runs
# without address space randomisation.
bits=$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 0)
if [ "${bits}" -gt 28 ] && setarch "$(uname -m)" -R true 2>/dev/null; then
  exec setarch "$(uname -m)" -R "$@"
fi
exec "$@"
