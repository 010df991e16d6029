# Finds oneDNN without its own CMake package: Debian's requires the OpenCL headers, although nothing here
# uses oneDNN on a GPU. Defines DNNL::dnnl.
find_path(dnnl_INCLUDE_DIR NAMES dnnl.hpp PATH_SUFFIXES oneapi/dnnl)
find_library(dnnl_LIBRARY NAMES dnnl)
mark_as_advanced(dnnl_INCLUDE_DIR dnnl_LIBRARY)

if(dnnl_INCLUDE_DIR AND EXISTS "${dnnl_INCLUDE_DIR}/dnnl_version.h")
  file(STRINGS "${dnnl_INCLUDE_DIR}/dnnl_version.h" version_lines REGEX "define DNNL_VERSION_(MAJOR|MINOR|PATCH)")
  string(REGEX REPLACE "[^0-9]+([0-9]+)" "\\1." dnnl_VERSION "${version_lines}")
  string(REGEX REPLACE "[^0-9.]|\\.$" "" dnnl_VERSION "${dnnl_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(dnnl REQUIRED_VARS dnnl_LIBRARY dnnl_INCLUDE_DIR VERSION_VAR dnnl_VERSION)

if(dnnl_FOUND AND NOT TARGET DNNL::dnnl)
  add_library(DNNL::dnnl UNKNOWN IMPORTED)
  set_target_properties(DNNL::dnnl PROPERTIES
    IMPORTED_LOCATION "${dnnl_LIBRARY}" INTERFACE_INCLUDE_DIRECTORIES "${dnnl_INCLUDE_DIR}")
endif()
