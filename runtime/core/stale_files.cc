#include "runtime/core/stale_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string_view>

#include "runtime/core/output_target.h"

namespace thermocline {
namespace {

constexpr std::string_view kEnding = ".tmp";
constexpr size_t kDigits = 8;

// Whether `entry` is called NAME.XXXXXXXX.tmp.
bool IsTemporaryOf(std::string_view name, std::string_view entry) {
  if (entry.size() != name.size() + 1 + kDigits + kEnding.size()) return false;
  if (!entry.starts_with(name) || !entry.ends_with(kEnding)) return false;
  if (entry[name.size()] != '.') return false;
  const std::string_view digits = entry.substr(name.size() + 1, kDigits);
  return digits.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// Removes the file unless it is no regular one or its writer lives.
void RemoveIfStale(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return;
  const int fd = ::open(path.c_str(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return;
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
  ::close(fd);
}

}  // namespace

std::string TemporaryName(const std::string& name, uint32_t number) {
  return fmt::format("{}.{:08x}{}", name, number, kEnding);
}

bool LockTemporary(int fd) {
  int locked = 0;
  do {
    locked = ::flock(fd, LOCK_EX);  // waits at most for another writer's look at it
  } while (locked != 0 && errno == EINTR);
  struct stat status {};
  return ::fstat(fd, &status) != 0 || status.st_nlink > 0;
}

void RemoveStaleTemporaries(const std::string& name) {
  namespace fs = std::filesystem;
  const std::string wanted = fs::path(name).filename();
  std::error_code failed;
  fs::directory_iterator entries(DirectoryOf(name), failed);
  for (const fs::directory_iterator end; !failed && entries != end; entries.increment(failed)) {
    const fs::path& path = entries->path();
    if (IsTemporaryOf(wanted, path.filename().native())) RemoveIfStale(path);
  }
}

}  // namespace thermocline
