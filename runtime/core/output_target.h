// What lies behind the name of an output: what is to be replaced, or written through.
#pragma once

#include <cstdint>
#include <string>

namespace thermocline {

struct OutputTarget {
  enum class Kind : uint8_t {
    kRegular,     // a regular file, or a name that is free
    kThrough,     // a FIFO, a device
    kDescriptor,  // an open file of this process: /dev/stdout, /dev/fd/3
  };
  Kind kind = Kind::kRegular;
  std::string path;     // with the last name's links followed
  int descriptor = -1;  // set for kDescriptor
  int error = 0;        // errno where it can be known not to be writable (a directory, a ring)
};

OutputTarget FindOutputTarget(const std::string& path);

// Returns "." for a bare name.
std::string DirectoryOf(const std::string& path);

}  // namespace thermocline
