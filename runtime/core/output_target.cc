#include "runtime/core/output_target.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <filesystem>

namespace thermocline {
namespace {

constexpr int kMaxLinks = 40;  // as many as Linux follows

// Returns the descriptor that `path` names, in this process's /proc/self/fd; -1 for any other path.
// Such a link leads to an open file, which may have lost its name or never had one.
int DescriptorNamed(const std::string& path) {
  std::error_code failed;
  const auto directory = std::filesystem::canonical(DirectoryOf(path), failed);
  if (failed || directory != std::filesystem::canonical("/proc/self/fd", failed)) return -1;
  const std::string name = std::filesystem::path(path).filename();
  int descriptor = -1;
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data(), end, descriptor);
  return parsed.ec == std::errc() && parsed.ptr == end ? descriptor : -1;
}

// Returns where a symbolic link leads; empty for what is none.
std::string LinkTarget(const std::string& path) {
  std::array<char, PATH_MAX> text;
  const ssize_t n = ::readlink(path.c_str(), text.data(), text.size());
  if (n <= 0) return "";
  const std::string target(text.data(), static_cast<size_t>(n));
  return target.front() == '/' ? target : DirectoryOf(path) + "/" + target;
}

}  // namespace

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

OutputTarget FindOutputTarget(const std::string& path) {
  OutputTarget target;
  target.path = path;
  for (int n_links = 0; n_links <= kMaxLinks; ++n_links) {
    target.descriptor = DescriptorNamed(target.path);
    if (target.descriptor >= 0) {
      target.kind = OutputTarget::Kind::kDescriptor;
      return target;
    }
    const std::string next = LinkTarget(target.path);
    if (next.empty()) break;
    target.path = next;
    if (n_links == kMaxLinks) target.error = ELOOP;
  }
  struct stat status {};
  if (target.error != 0 || ::stat(target.path.c_str(), &status) != 0) return target;
  if (!S_ISREG(status.st_mode)) target.kind = OutputTarget::Kind::kThrough;
  if (S_ISDIR(status.st_mode)) {
    target.error = EISDIR;
  } else if (::access(target.path.c_str(), W_OK) != 0) {
    target.error = errno;
  }
  return target;
}

}  // namespace thermocline
