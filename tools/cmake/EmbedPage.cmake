# Puts the page of `serve` together: FOLDER/page.html, with every line "{{NAME}}" replaced by the file of that name in FOLDER.
# OUTPUT becomes a C++ source that holds it.
#   cmake -DFOLDER=... -DOUTPUT=... -P EmbedPage.cmake
cmake_minimum_required(VERSION 3.25)

file(READ "${FOLDER}/page.html" page)
file(GLOB parts RELATIVE "${FOLDER}" "${FOLDER}/*")
foreach(part IN LISTS parts)
  file(READ "${FOLDER}/${part}" text)
  string(REPLACE "{{${part}}}\n" "${text}" page "${page}")
endforeach()
if(page MATCHES "{{[a-z_]+\\.(css|js)}}")
  message(FATAL_ERROR "no such part of the page: ${CMAKE_MATCH_0}")
endif()
if(page MATCHES "\\)PAGE\"")
  message(FATAL_ERROR "the page holds what ends a text in C++")
endif()

# Compilers need not take literals of any length: pieces of 16000 bytes.
string(LENGTH "${page}" rest)
set(begin 0)
set(literals "")
while(rest GREATER 0)
  string(SUBSTRING "${page}" ${begin} 16000 piece)
  string(APPEND literals "    R\"PAGE(${piece})PAGE\"\n")
  math(EXPR begin "${begin} + 16000")
  math(EXPR rest "${rest} - 16000")
endwhile()
file(WRITE "${OUTPUT}" "// Made by tools/cmake/EmbedPage.cmake.
#include \"tools/serve/page_text.h\"

namespace thermocline {

std::string_view PageText() {
  static constexpr std::string_view kPage =
${literals};
  return kPage;
}

}  // namespace thermocline
")
