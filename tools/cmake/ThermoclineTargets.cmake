# How every target of the project is compiled: one place for the language level, the warnings and
# the sanitizers, and the three functions that declare libraries, tests and benches.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

# A target's sources two dozen to a translation unit: what costs time is headers, and a whole build takes a third of it.
# For trees that are built whole (tools/test), not for editing; names of unnamed namespaces must differ within a target.
option(THERMOCLINE_UNITY "Compile a target's sources together" OFF)
set(CMAKE_UNITY_BUILD ${THERMOCLINE_UNITY})
set(CMAKE_UNITY_BUILD_BATCH_SIZE 24)
if(THERMOCLINE_UNITY)
  # GCC 12 inlines more of the standard library then, and warns of overflows in it that are none.
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow> $<$<CXX_COMPILER_ID:GNU>:-Wno-array-bounds>)
  # A hundred programs of these trees link the same libraries: LLVM's linker does it in a quarter of the time of GNU's.
  find_program(THERMOCLINE_LLD ld.lld)
  if(THERMOCLINE_LLD)
    add_link_options(-fuse-ld=lld)
  endif()
endif()

# Options of the host compiler; nvcc takes them behind -Xcompiler.
function(thermocline_host_options)
  list(JOIN ARGN "," joined)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${ARGN}>" "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=${joined}>")
endfunction()

thermocline_host_options(-Wall -Wextra -Wshadow -Wno-unknown-pragmas)
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>")
# For the trees that tests build: what another compiler warns of must not keep anyone from building the program.
option(THERMOCLINE_WERROR "Warnings are errors" OFF)
if(THERMOCLINE_WERROR)
  thermocline_host_options(-Werror)
  add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>")
endif()
# Without this the compiler may fuse a*b+c in one ISA's translation unit and not in another's, and the
# plain C++ kernels would round differently from one build to the next.
thermocline_host_options(-ffp-contract=off)
thermocline_host_options(-fno-math-errno)

if(THERMOCLINE_SANITIZE)
  foreach(sanitizer IN LISTS THERMOCLINE_SANITIZE)
    add_compile_options(-fsanitize=${sanitizer})
    add_link_options(-fsanitize=${sanitizer})
  endforeach()
  add_compile_options(-fno-omit-frame-pointer -fno-sanitize-recover=all)
endif()
# The instruction set that the kernels choose by themselves on this machine.
execute_process(COMMAND ${PROJECT_SOURCE_DIR}/tools/instruction_sets --best OUTPUT_VARIABLE THERMOCLINE_BEST_ISA
  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
file(STRINGS /proc/cpuinfo THERMOCLINE_CPU_FLAGS REGEX "^flags" LIMIT_COUNT 1)
set(THERMOCLINE_HAS_AVX_VNNI OFF)
if(THERMOCLINE_CPU_FLAGS MATCHES " avx_vnni( |$)")
  set(THERMOCLINE_HAS_AVX_VNNI ON)
endif()

# Lean: of UBSan's checks not those whose failures AddressSanitizer or the MMU see at the access itself; without them
# a build takes half of the time. No debug information: reports name functions, not lines, which a tree without
# THERMOCLINE_LEAN_TESTS does.
if(THERMOCLINE_LEAN_TESTS AND THERMOCLINE_SANITIZE)
  add_compile_options(-g0)
  if("undefined" IN_LIST THERMOCLINE_SANITIZE)
    add_compile_options(-fno-sanitize=null,object-size,pointer-overflow)
  endif()
endif()

# AddressSanitizer's checks as calls instead of in place, in a lean tree. The same checks; in unrolled kernels those in place
# take most of the compiler's time, and those by calls four times as long to run.
set(THERMOCLINE_CHECKS_BY_CALLS "")
if(THERMOCLINE_LEAN_TESTS AND "address" IN_LIST THERMOCLINE_SANITIZE AND CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  set(THERMOCLINE_CHECKS_BY_CALLS -mllvm -asan-instrumentation-with-call-threshold=0)
endif()

# Libraries that compute little: a lean tree with a sanitizer does not optimise them, and `test` little, as compiling takes longer
# there than they run. Not grammars and templates where AddressSanitizer's tests run them for minutes, nor, in `test`, where a
# user's speed may be measured, what runs for every token.
set(THERMOCLINE_COLD tc_chat tc_convert tc_device tc_device_gpu tc_drafts tc_engine tc_gguf tc_grammar tc_import tc_jinja
  tc_load tc_lora tc_model tc_moves tc_pass tc_placement tc_rates tc_reply tc_safetensors tc_schedule tc_speculate
  tc_stand_ins tc_synth tc_timing)
set(THERMOCLINE_COLD_OPTION "")
if(THERMOCLINE_SANITIZE AND THERMOCLINE_LEAN_TESTS)
  set(THERMOCLINE_COLD_OPTION -O0)
  if("address" IN_LIST THERMOCLINE_SANITIZE)
    list(REMOVE_ITEM THERMOCLINE_COLD tc_grammar tc_jinja)
  endif()
elseif(THERMOCLINE_UNITY AND NOT THERMOCLINE_SANITIZE)
  set(THERMOCLINE_COLD_OPTION -O1)
  list(REMOVE_ITEM THERMOCLINE_COLD tc_device tc_device_gpu tc_engine tc_grammar tc_moves tc_pass tc_schedule tc_speculate)
endif()
# Libraries that libFuzzer follows into: what parses.
set(THERMOCLINE_FUZZED tc_core tc_gguf tc_text tc_grammar tc_reply tc_jinja tc_import tc_safetensors tc_lora tc_placement tc_schedule tc_serve)
if(THERMOCLINE_FUZZ)
  add_custom_target(fuzzers)
endif()

# thermocline_library(NAME SOURCES ... LINKS ...)
function(thermocline_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC ${ARG_LINKS})
  if(THERMOCLINE_FUZZ AND name IN_LIST THERMOCLINE_FUZZED)
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
  if(name IN_LIST THERMOCLINE_COLD)
    target_compile_options(${name} PRIVATE ${THERMOCLINE_COLD_OPTION})
  endif()
endfunction()

# How tests run. CTest counts a binary in which every test was skipped as skipped (exit code of
# tests/support/gtest_main.cc). A sanitizer's tree puts its name before the names of its tests, so that
# tools/test can list the tests of all trees in one run.
set(THERMOCLINE_SKIPPED_EXIT_CODE 77)
set(THERMOCLINE_TEST_ENVIRONMENT
  "UBSAN_OPTIONS=print_stacktrace=1"
  "TSAN_OPTIONS=second_deadlock_stack=1:suppressions=${PROJECT_SOURCE_DIR}/tests/support/tsan_suppressions.txt")
set(THERMOCLINE_TEST_PREFIX "")
set(THERMOCLINE_TREE "" CACHE STRING "What the names of this tree's tests begin with, where several trees are one list")
if("thread" IN_LIST THERMOCLINE_SANITIZE)
  set(THERMOCLINE_TEST_PREFIX "tsan.")
elseif(THERMOCLINE_SANITIZE)
  set(THERMOCLINE_TEST_PREFIX "asan.")
elseif(THERMOCLINE_TREE)
  set(THERMOCLINE_TEST_PREFIX "${THERMOCLINE_TREE}.")
endif()
if(THERMOCLINE_LEAN_TESTS)
  list(APPEND THERMOCLINE_TEST_ENVIRONMENT "THERMOCLINE_SHORT_TESTS=1")
  if("thread" IN_LIST THERMOCLINE_SANITIZE AND NOT THERMOCLINE_BEST_ISA STREQUAL "scalar")
    list(APPEND THERMOCLINE_TEST_ENVIRONMENT "THERMOCLINE_FORCE_ISA=avx2")  # see cpu_kernels/CMakeLists.txt
  endif()
endif()
# See the script: ThreadSanitizer cannot start under some kernels' address space randomisation.
set(THERMOCLINE_TEST_LAUNCHER "")
if("thread" IN_LIST THERMOCLINE_SANITIZE)
  set(THERMOCLINE_TEST_LAUNCHER "${CMAKE_CURRENT_LIST_DIR}/run_without_aslr.sh")
endif()

# thermocline_test(NAME SOURCES ... LINKS ... [LABELS ...] [TIMEOUT seconds] [PROCESSORS n] [SEPARATE] [LEAN filter]
# [LEAN_THREADS filter] [ISAS filter]): one GoogleTest binary, one CTest test. Labels: `slow` keeps it out of the sanitizer trees and of tools/test without --all; `models` adds
# a test per instruction set, isa.ISA.NAME, labelled `isa`; see docs/testing.md. PROCESSORS says how many cores it keeps busy,
# so that CTest does not run another one beside it; SEPARATE, that its sources are never compiled together; LEAN, which of its
# tests a lean sanitizer tree runs (a filter of GoogleTest's), LEAN_THREADS, which of them ThreadSanitizer's; ISAS, which
# of them run with each instruction set forced. Threads start in tc_threads and in the emulated GPU: a test that links neither,
# nor what stands on them, has nothing for ThreadSanitizer and is left out there.
function(thermocline_test name)
  cmake_parse_arguments(ARG "SEPARATE" "TIMEOUT;PROCESSORS;LEAN;LEAN_THREADS;ISAS" "SOURCES;LINKS;LABELS;ENVIRONMENT" ${ARGN})
  if(ARG_LEAN_THREADS AND "thread" IN_LIST THERMOCLINE_SANITIZE)
    set(ARG_LEAN ${ARG_LEAN_THREADS})
  endif()
  if(ARG_LEAN AND THERMOCLINE_LEAN_TESTS)
    list(APPEND ARG_ENVIRONMENT "GTEST_FILTER=${ARG_LEAN}")
  endif()
  if("slow" IN_LIST ARG_LABELS AND NOT THERMOCLINE_SLOW_TESTS)
    return()
  endif()
  if("thread" IN_LIST THERMOCLINE_SANITIZE AND NOT ARG_LINKS MATCHES "tc_(runtime|threads|device_cpu|profiler|tools|gpu_kernels)")
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINKS} tc_test_main)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  if(ARG_SEPARATE)
    set_target_properties(${name} PROPERTIES UNITY_BUILD OFF)
  endif()
  # tc_ libraries bring the definitions that the headers were compiled with; OpenMP's option would be another one.
  if(TARGET tc_test_headers AND ARG_LINKS MATCHES "tc_" AND NOT ARG_LINKS MATCHES "OpenMP")
    target_precompile_headers(${name} REUSE_FROM tc_test_headers)
    # GCC 12 warns of reading past strings that it made itself.
    target_compile_options(${name} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overread>)
  endif()
  target_compile_definitions(${name} PRIVATE
    THERMOCLINE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  thermocline_add_test(${name} COMMAND ${name} LABELS ${ARG_LABELS} TIMEOUT ${ARG_TIMEOUT}
    PROCESSORS ${ARG_PROCESSORS} ENVIRONMENT ${ARG_ENVIRONMENT})
  if("models" IN_LIST ARG_LABELS AND NOT THERMOCLINE_SANITIZE AND NOT THERMOCLINE_TREE)
    if(ARG_ISAS)
      list(APPEND ARG_ENVIRONMENT "GTEST_FILTER=${ARG_ISAS}")
    endif()
    thermocline_isa_tests(${name} LABELS ${ARG_LABELS} TIMEOUT ${ARG_TIMEOUT} PROCESSORS ${ARG_PROCESSORS}
      ENVIRONMENT ${ARG_ENVIRONMENT})
  endif()
endfunction()

# The same test with each instruction set forced in turn, but for the one that it takes unforced.
function(thermocline_isa_tests name)
  cmake_parse_arguments(ARG "" "TIMEOUT;PROCESSORS" "LABELS;ENVIRONMENT" ${ARGN})
  list(REMOVE_ITEM ARG_LABELS slow)
  foreach(isa scalar avx2 avx512)
    if(isa STREQUAL THERMOCLINE_BEST_ISA)
      continue()
    endif()
    thermocline_add_test(isa.${isa}.${name} LABELS isa ${ARG_LABELS} TIMEOUT ${ARG_TIMEOUT} PROCESSORS ${ARG_PROCESSORS}
      ENVIRONMENT ${ARG_ENVIRONMENT} THERMOCLINE_SHORT_TESTS=1
      COMMAND ${PROJECT_SOURCE_DIR}/tests/support/run_with_isa.sh ${isa} $<TARGET_FILE:${name}>)
  endforeach()
endfunction()

# thermocline_fuzz_test(NAME SOURCES harness.cc LINKS ... CORPUS directory [SECONDS 60] [MAX_LEN bytes]): a
# libFuzzer harness. With THERMOCLINE_FUZZ it is fuzzed for SECONDS, starting from the corpus; in every other tree each
# file of the corpus runs through it once.
function(thermocline_fuzz_test name)
  cmake_parse_arguments(ARG "" "CORPUS;SECONDS;MAX_LEN" "SOURCES;LINKS" ${ARGN})
  get_filename_component(corpus "${ARG_CORPUS}" ABSOLUTE)
  if(NOT ARG_SECONDS)
    set(ARG_SECONDS 60)
  endif()
  if(NOT ARG_MAX_LEN)
    set(ARG_MAX_LEN 16384)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LINKS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  if(THERMOCLINE_FUZZ)
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    add_dependencies(fuzzers ${name})
    # New inputs go to the first directory and are kept from run to run; what breaks goes to findings/.
    set(work "${CMAKE_CURRENT_BINARY_DIR}/${name}_work")
    file(MAKE_DIRECTORY "${work}/inputs" "${work}/findings")
    math(EXPR timeout "${ARG_SECONDS} + 120")
    thermocline_add_test(${name} LABELS fuzz TIMEOUT ${timeout} COMMAND ${name}
      -max_total_time=${ARG_SECONDS} -max_len=${ARG_MAX_LEN} -timeout=10 -rss_limit_mb=2048
      -print_final_stats=1 -artifact_prefix=${work}/findings/ ${work}/inputs ${corpus})
  else()
    target_link_libraries(${name} PRIVATE tc_fuzz_replay)
    thermocline_add_test(${name} COMMAND ${name} ${corpus})
  endif()
endfunction()

# thermocline_add_test(NAME COMMAND ... [LABELS ...] [TIMEOUT seconds] [PROCESSORS n] [ENVIRONMENT NAME=VALUE ...]): any
# command as a test.
function(thermocline_add_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT;PROCESSORS" "COMMAND;LABELS;ENVIRONMENT" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 600)
  endif()
  if(NOT ARG_PROCESSORS)
    set(ARG_PROCESSORS 1)
  endif()
  set(test "${THERMOCLINE_TEST_PREFIX}${name}")
  # What takes longest starts first, so that no core is idle at the end. CTest knows real times from the second run on.
  set(cost 1)
  if("tidy" IN_LIST ARG_LABELS)
    set(cost 1000)
  elseif("slow" IN_LIST ARG_LABELS)
    set(cost 200)
  elseif("cpu_kernels" IN_LIST ARG_LABELS)
    set(cost 150)
  elseif(THERMOCLINE_SANITIZE)
    set(cost 100)
  elseif("isa" IN_LIST ARG_LABELS)
    set(cost 50)
  elseif("models" IN_LIST ARG_LABELS OR "gpu" IN_LIST ARG_LABELS)
    set(cost 10)
  endif()
  # These first: CTest never starts one while others keep a core busy.
  if(ARG_PROCESSORS GREATER 1)
    math(EXPR cost "${cost} + 500")
  endif()
  # To find uses of a stack after return, AddressSanitizer gives every fiber of the emulated GPU further stacks, which takes
  # five times as long: tests of the host's code look for them.
  set(after_return 1)
  if("gpu" IN_LIST ARG_LABELS)
    set(after_return 0)
  endif()
  list(APPEND ARG_ENVIRONMENT
    "ASAN_OPTIONS=strict_string_checks=1:check_initialization_order=1:detect_stack_use_after_return=${after_return}")
  # Rates that this machine keeps of itself are none of a test's business.
  list(APPEND ARG_ENVIRONMENT "XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/no-cache")
  list(POP_FRONT ARG_COMMAND program)
  if(TARGET ${program})
    set(program $<TARGET_FILE:${program}>)
  endif()
  add_test(NAME ${test} COMMAND ${THERMOCLINE_TEST_LAUNCHER} ${program} ${ARG_COMMAND})
  set_tests_properties(${test} PROPERTIES COST ${cost} TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}"
    PROCESSORS ${ARG_PROCESSORS} SKIP_RETURN_CODE ${THERMOCLINE_SKIPPED_EXIT_CODE}
    ENVIRONMENT "${THERMOCLINE_TEST_ENVIRONMENT};${ARG_ENVIRONMENT}")
endfunction()
