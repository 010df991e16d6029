#include "runtime/core/control_groups.h"

#include <fstream>
#include <sstream>

namespace thermocline {
namespace {

namespace fs = std::filesystem;

// Whether a list "a,b,c" has the name.
bool Lists(const std::string& names, std::string_view name) {
  std::istringstream stream(names);
  for (std::string each; std::getline(stream, each, ',');) {
    if (each == name) return true;
  }
  return false;
}

}  // namespace

std::vector<ControlGroup> ControlGroupsOf(std::string_view controller, const std::string& root) {
  std::vector<ControlGroup> found;
  std::ifstream groups(fs::path(root) / "proc/self/cgroup");
  // "0::/GROUP" (version 2) or "ID:CONTROLLERS:/GROUP".
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos || second + 1 >= line.size()) continue;
    const bool unified = second == first + 1;
    if (!unified && !Lists(line.substr(first + 1, second - first - 1), controller)) continue;
    const fs::path top = fs::path(root) / "sys/fs/cgroup" / (unified ? "" : controller);
    // In a container the group's path may be the host's, which is not there: the top then is the
    // container's own group.
    for (fs::path group = fs::path(line.substr(second + 1)).relative_path();;
         group = group.parent_path()) {
      found.push_back({top / group, (fs::path("/") / group).string(), unified});
      if (group.empty()) break;
    }
  }
  return found;
}

}  // namespace thermocline
